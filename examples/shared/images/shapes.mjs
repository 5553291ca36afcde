// Made data for a look without any files: shapes drawn at random places and sizes, and a small net that knows some.
import * as tf from '@tensorflow/tfjs';
import {random} from '../random.mjs';
import {fineTune} from './finetune.mjs';

const side = 28;

/** Whether a point is in a shape of size 1 around the origin. */
const inside = {
  disc: (x, y) => Math.hypot(x, y) < 1,
  ring: (x, y) => Math.abs(Math.hypot(x, y) - 0.8) < 0.25,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) < 0.85,
  frame: (x, y) => Math.abs(Math.max(Math.abs(x), Math.abs(y)) - 0.75) < 0.22,
  plus: (x, y) => Math.min(Math.abs(x), Math.abs(y)) < 0.25 && Math.max(Math.abs(x), Math.abs(y)) < 1,
  bar: (x, y) => Math.abs(y) < 0.3 && Math.abs(x) < 1,
  triangle: (x, y) => y < 0.8 && Math.abs(x) < (y + 1) / 1.8,
  diamond: (x, y) => Math.abs(x) + Math.abs(y) < 1,
  saltire: (x, y) => Math.min(Math.abs(x - y), Math.abs(x + y)) < 0.35 && Math.hypot(x, y) < 1.1,
  column: (x, y) => Math.abs(x) < 0.3 && Math.abs(y) < 1,
};

/** What the small net knows, and what it is to learn. */
export const known = ['disc', 'ring', 'square', 'frame', 'plus', 'bar'];
export const unknown = ['triangle', 'diamond', 'saltire', 'column'];

/** `n` noisy images of the named shapes, which follow from the seed; the label is the place among the names. */
export function drawShapes(names, n, seed) {
  const next = random(seed);
  const between = (low, high) => low + (high - low) * next();
  const pixels = new Uint8Array(n * side * side);
  const labels = new Uint8Array(n);
  for (let image = 0; image < n; image++) {
    const label = Math.floor(next() * names.length);
    const shape = inside[names[label]];
    const [size, left, top] = [between(6, 9), between(11, 17), between(11, 17)];
    labels[image] = label;
    for (let i = 0; i < side * side; i++) {
      const ink = shape(((i % side) - left) / size, (Math.floor(i / side) - top) / size) ? 200 : 0;
      pixels[image * side * side + i] = ink + between(0, 55);
    }
  }
  return {pixels, labels, side};
}

/** A conv net of doodlenet's form, smaller, trained on the shapes it is to know. */
export async function smallNet(onStep) {
  const {conv2d, maxPooling2d, flatten, dense} = tf.layers;
  const kernelInitializer = seed => tf.initializers.glorotUniform({seed});
  const conv = {kernelSize: 3, padding: 'same', activation: 'relu'};
  const model = tf.sequential({
    layers: [
      conv2d({
        ...conv,
        filters: 8,
        inputShape: [side, side, 1],
        name: 'conv',
        kernelInitializer: kernelInitializer(1),
      }),
      maxPooling2d({poolSize: 2, name: 'pool'}),
      conv2d({...conv, filters: 16, name: 'conv_1', kernelInitializer: kernelInitializer(2)}),
      maxPooling2d({poolSize: 2, name: 'pool_1'}),
      flatten({name: 'flatten'}),
      dense({units: 64, activation: 'tanh', name: 'dense', kernelInitializer: kernelInitializer(3)}),
      dense({
        units: known.length,
        activation: 'softmax',
        name: 'dense_1',
        kernelInitializer: kernelInitializer(4),
      }),
    ],
  });
  const optimizer = tf.train.adam(3e-3, 0.9, 0.999, 1e-7);
  await fineTune(model, optimizer, drawShapes(known, 2000, 1), {
    ...{steps: 80, batch: 32, seed: 1, classes: known.length, onStep},
  });
  optimizer.dispose();
  return model;
}

/** A model's files in memory, as if read: for `loadModel`. */
export async function filesOf(model) {
  let files;
  await model.save(
    tf.io.withSaveHandler(async artifacts => {
      files = artifacts;
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  return files;
}

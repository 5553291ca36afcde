import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, describe, expect, test} from 'vitest';
import {tapGradients} from '../../src/capture/tape.js';
import {loraAdam, normal} from '../../src/index.js';

const image = (channels: number, seed = 1) => normal([2, 6, 5, channels], seed) as tf.Tensor4D;
const filter = (channels: number, multiplier: number) =>
  tf.variable(normal([3, 2, channels, multiplier], 2)) as unknown as tf.Tensor4D & tf.Variable;
const squared = (y: tf.Tensor) => tf.mean(tf.square(y)) as tf.Scalar;

/** The gradients that the tape hands over, dense, and how they came. */
function tapped(loss: () => tf.Scalar, weights: tf.Variable[]) {
  const found = weights.map(() => ({values: new Float32Array(), how: ''}));
  tapGradients(loss, weights, (weight, gradient, {path, why}) => {
    const values = tf.tidy(() => gradient.dense().dataSync() as Float32Array).slice();
    found[weights.indexOf(weight)] = {values, how: `${path}: ${why}`};
  });
  return found;
}

describe.each(['cpu', 'wasm'])('depthwise convolutions, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  const uses: Record<string, (x: tf.Tensor4D, f: tf.Tensor4D, bias: tf.Tensor1D) => tf.Tensor> = {
    plain: (x, f, bias) => tf.add(tf.depthwiseConv2d(x, f, [2, 1], 'same'), bias),
    'fused with a bias': (x, f, bias) =>
      tf.fused.depthwiseConv2d({x, filter: f, strides: 1, pad: 'valid', bias}),
    'one image, on its own': (x, f, bias) =>
      tf.mul(
        tf.depthwiseConv2d(
          tf.reshape(tf.slice(x, 0, 1), [6, 5, 3]) as tf.Tensor3D,
          f,
          2,
          1,
          'NHWC',
          1,
          'floor',
        ),
        bias,
      ),
    'twice, one filter': (x, f, bias) =>
      tf.add(tf.depthwiseConv2d(x, f, 1, 'same'), tf.mul(tf.depthwiseConv2d(tf.tanh(x), f, 1, 'same'), bias)),
  };
  test.each(Object.entries(uses))('%s: filter, bias and what comes before', async (_, use) => {
    const [before, f] = [tf.variable(normal([3, 3], 4)), filter(3, 2)];
    const bias = tf.variable(normal([6], 5)) as unknown as tf.Tensor1D & tf.Variable;
    const weights = [before, f, bias] as tf.Variable[];
    const loss = () => {
      const x = tf.reshape(
        tf.matMul(tf.reshape(image(3), [60, 3]), before as unknown as tf.Tensor2D),
        [2, 6, 5, 3],
      );
      return squared(use(x as tf.Tensor4D, f, bias));
    };
    const got = tapped(loss, weights);
    await tf.setBackend('cpu');
    const {grads} = tf.variableGrads(loss, weights);
    weights.forEach((weight, i) => {
      grads[weight.name]!.dataSync().forEach((value, k) => expect(got[i]!.values[k]).toBeCloseTo(value, 4));
    });
    await tf.setBackend(backend);
    expect(got[0]!.how).toBe('factored: matMul');
    expect(got[1]!.how).toMatch(
      backend === 'wasm' ? /^dense: a depthwise filter.*from slices/ : /^dense: a depthwise filter.*formed$/,
    );
  });

  test('with a dilation, for which tfjs has no gradient', () => {
    const f = filter(2, 2);
    const loss = () => squared(tf.depthwiseConv2d(image(2), f, 1, 'same', 'NHWC', [1, 2]));
    expect(() => tf.variableGrads(loss, [f])).toThrow(/dilation/);
    const [{values, how}] = tapped(loss, [f]) as [{values: Float32Array; how: string}];
    expect(how).toMatch(/from slices/);
    // A step along each number of the filter changes the loss as its gradient says.
    const start = f.dataSync().slice();
    const at = (k: number, by: number) =>
      tf.tidy(() => {
        f.assign(
          tf.tensor(
            start.map((value, i) => (i === k ? value + by : value)),
            f.shape,
          ),
        );
        return loss().dataSync()[0]!;
      });
    // The loss is a quadratic in the filter: central differences are exact.
    start.forEach((_, k) => expect((at(k, 0.5) - at(k, -0.5)) / 1).toBeCloseTo(values[k]!, 4));
  });

  test('one that is frozen lets the gradient of what comes before through', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.conv2d({name: 'first', filters: 8, kernelSize: 3, inputShape: [6, 5, 3], padding: 'same'}),
        tf.layers.depthwiseConv2d({name: 'middle', kernelSize: 3, depthMultiplier: 2}),
        tf.layers.flatten(),
        tf.layers.dense({name: 'out', units: 2}),
      ],
    });
    const optimizer = loraAdam(0.02, {rank: 2, targets: 'first/kernel'});
    model.compile({optimizer, loss: 'meanSquaredError'});
    const [x, y] = [image(3), normal([2, 2], 3)];
    const middle = model.getLayer('middle').getWeights()[0]!.dataSync().slice();
    const losses: number[] = [];
    for (let step = 0; step < 8; step++) losses.push((await model.trainOnBatch(x, y)) as number);
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    expect(model.getLayer('middle').getWeights()[0]!.dataSync()).toEqual(middle);
  });

  test('a separable block trains, its pointwise filter factored, and leaves no tensor behind', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.separableConv2d({
          filters: 12,
          kernelSize: 3,
          depthMultiplier: 2,
          inputShape: [6, 5, 3],
          padding: 'same',
        }),
        tf.layers.flatten(),
        tf.layers.dense({units: 2}),
      ],
    });
    const optimizer = loraAdam(0.02, {rank: 2, rest: 'train'});
    model.compile({optimizer, loss: 'meanSquaredError'});
    const [x, y] = [image(3), normal([2, 2], 3)];
    const first = (await model.trainOnBatch(x, y)) as number;
    await model.trainOnBatch(x, y);
    const {numTensors} = tf.memory();
    for (let step = 0; step < 6; step++) await model.trainOnBatch(x, y);
    expect(tf.memory().numTensors).toBe(numTensors);
    expect((await model.trainOnBatch(x, y)) as number).toBeLessThan(first);
    const rows = optimizer.explain(model, null);
    expect(rows.find(({name}) => name.includes('pointwise'))!.capture).toMatch(/^factored: /);
    expect(rows.find(({name}) => name.includes('depthwise'))!.capture).toMatch(/^dense: a depthwise filter/);
  });
});

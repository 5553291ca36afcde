// What bench/doodlenet.mjs runs in a browser: the same training as in Node.
import * as tf from '@tensorflow/tfjs';
import {loadModel, trainOnce, withNewHead} from '../examples/shared/images/adapted.mjs';

const bytes = async path => new Uint8Array(await (await fetch(path)).arrayBuffer());
const images = async name => ({
  pixels: await bytes(`${name}-pixels`),
  labels: await bytes(`${name}-labels`),
  side: 28,
});

globalThis.start = async backend => {
  tf.enableProdMode();
  await tf.setBackend(backend);
  await tf.ready();
  const gl = document.createElement('canvas').getContext('webgl2');
  const info = gl?.getExtension('WEBGL_debug_renderer_info');
  return {
    backend: tf.getBackend(),
    renderer: info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : null,
    agent: navigator.userAgent,
  };
};

globalThis.train = async (way, options) => {
  const artifacts = {
    ...(await (await fetch('model.json')).json()),
    weightData: (await bytes('weights')).buffer,
  };
  const data = {train: await images('train'), check: await images('check')};
  const make = async () => withNewHead(await loadModel(artifacts), options.classes, options.seed);
  const {result, model, optimizer} = await trainOnce(make, way, data, {
    ...options,
    onStep: step => globalThis.told(step),
  });
  const weights = await Promise.all(
    model.getWeights().map(async weight => ({shape: weight.shape, values: [...(await weight.data())]})),
  );
  optimizer.dispose();
  model.dispose();
  return {result, weights};
};

import type {Tensor} from '@tensorflow/tfjs-core';
import {backend, getBackend} from '@tensorflow/tfjs-core';

/**
 * The numbers of a tensor, at once; not to be written to.
 *
 * Throws on webgpu, unless they are on the host still. tfjs would read them through a canvas there: outside a browser
 * there is none, and in Chromium without a GPU the read gives zeros and loses the device.
 */
export function read(tensor: Tensor, what = 'a matrix'): Float32Array {
  if (getBackend() === 'webgpu' && !isOnHost(tensor)) {
    throw new Error(
      `${what} [${tensor.shape}] must be read here, and the webgpu backend cannot hand numbers over at once. A start ` +
        "that reads can be made on another backend: tf.setBackend('cpu') for the model and its first step, then webgpu. What reads at " +
        'every step needs another backend throughout',
    );
  }
  return tensor.dataSync() as Float32Array;
}

/** Whether webgpu has not been given the numbers yet, or has given them back. */
function isOnHost({dataId}: Tensor): boolean {
  const {tensorMap} = backend() as unknown as {tensorMap?: {get(id: object): {values?: unknown}}};
  return tensorMap?.get(dataId).values != null;
}

import type {Tensor} from '@tensorflow/tfjs-core';
import {getBackend} from '@tensorflow/tfjs-core';

/**
 * The numbers of a tensor, at once; not to be written to.
 *
 * Throws where the backend cannot hand them over: webgpu reads a buffer through a canvas, which only browsers have.
 */
export function read(tensor: Tensor, what = 'a matrix'): Float32Array {
  try {
    return tensor.dataSync() as Float32Array;
  } catch (error) {
    if (getBackend() !== 'webgpu' || hasCanvas()) throw error;
    throw new Error(
      `${what} [${tensor.shape}] must be read here, and the webgpu backend can do that at once only in a browser: ` +
        'start this training on another backend (tf.setBackend) and change to webgpu after the first step, or choose a ' +
        'method that reads nothing, such as lora with its default start',
      {cause: error},
    );
  }
}

/** Whether webgpu has what it reads through. */
export const hasCanvas = (): boolean => typeof OffscreenCanvas !== 'undefined';

// The backend of an example: wasm or cpu.
import * as tf from '@tensorflow/tfjs';
import {UsageError} from './arguments.mjs';

/**
 * Makes a backend the current one. What training needs and wasm lacks comes from `import 'tfjs-lora/wasm'`, which is
 * left to the example: some show first what happens without.
 */
export async function chooseBackend(name) {
  tf.enableProdMode();
  if (name === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
  if (!(await tf.setBackend(name)) || tf.getBackend() !== name) {
    throw new UsageError(`the backend ${name} does not start here`);
  }
}

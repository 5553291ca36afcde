// The backend of an example: wasm with the kernels of tfjs-lora/wasm, or cpu.
import * as tf from '@tensorflow/tfjs';
import {UsageError} from './arguments.mjs';

/** The names that `--backend` takes. */
export const backends = ['wasm', 'cpu'];

/** Makes a backend the current one. On wasm the kernels that training needs are not installed yet. */
export async function chooseBackend(name) {
  tf.enableProdMode();
  if (name === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
  if (!(await tf.setBackend(name)) || tf.getBackend() !== name) {
    throw new UsageError(`the backend ${name} does not start here`);
  }
}

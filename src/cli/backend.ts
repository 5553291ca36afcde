/** Which tfjs backend a command runs on. */
import * as tf from '@tensorflow/tfjs';
import {installWasmKernels} from '../wasm/install.js';
import {UsageError} from './usage-error.js';

/** A backend that can be asked for: the package that brings it and the name it has in tfjs. */
interface Candidate {
  name: string;
  module?: string;
  registered: string;
}

/** Fastest first. The two native ones are untested: no machine at hand could install their binaries. */
const candidates: Candidate[] = [
  {name: 'tensorflow-gpu', module: '@tensorflow/tfjs-node-gpu', registered: 'tensorflow'},
  {name: 'tensorflow', module: '@tensorflow/tfjs-node', registered: 'tensorflow'},
  {name: 'wasm', module: '@tensorflow/tfjs-backend-wasm', registered: 'wasm'},
  {name: 'cpu', registered: 'cpu'},
];

/** Makes a backend the current one; false if its package is not installed or it does not start. */
async function start({module, registered}: Candidate): Promise<boolean> {
  try {
    if (module !== undefined) await import(module);
    return (await tf.setBackend(registered)) && tf.getBackend() === registered;
  } catch {
    return false;
  }
}

/**
 * Makes the named backend the current one or, without a name, the fastest that is installed. On wasm the
 * kernels of `tfjs-lora/wasm` are installed too.
 * @returns the backend's name and a note on the choice, for people
 * @throws UsageError if the named backend is unknown or does not start; it lists those that do
 */
export async function chooseBackend(asked?: string): Promise<{name: string; note: string}> {
  // Keeps the cpu backend from advertising another one on the console.
  tf.enableProdMode();
  const choice = candidates.filter(({name}) => asked === undefined || name === asked);
  if (choice.length === 0) {
    const names = candidates.map(({name}) => name).join(', ');
    throw new UsageError(`unknown backend ${asked}: --backend takes ${names}`);
  }
  for (const candidate of choice) {
    if (!(await start(candidate))) continue;
    if (candidate.name === 'wasm') installWasmKernels();
    const note =
      asked === undefined
        ? `${candidate.name}: the fastest backend installed`
        : `${candidate.name}: as asked`;
    return {name: candidate.name, note};
  }
  const working: string[] = [];
  for (const candidate of candidates) if (await start(candidate)) working.push(candidate.name);
  throw new UsageError(`the backend ${asked} is not installed; there is ${working.join(', ')}`);
}

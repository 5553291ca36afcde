// The two sets of wasm kernels a candidate can run on: as tfjs ships them, and with tfjs-lora's installed.
import {existsSync} from 'node:fs';
import '@tensorflow/tfjs-backend-wasm';

const file = name => new URL(`../dist/wasm/${name}.js`, import.meta.url);
const install = existsSync(file('index'))
  ? (await import(file('index'))).installWasmKernels
  : (await import(file('matmul'))).installFastMatMul;

/** Which installer `fast` stands for. */
export const fastKernels = install.name;

/** Runs `work` on kernels `'shipped'` or `'fast'`; installing and undoing happen outside of it. */
export function onKernels(which, work) {
  if (which === 'shipped') return work();
  const undo = install();
  try {
    return work();
  } finally {
    undo();
  }
}

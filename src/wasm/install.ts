import {installConv2d} from './conv2d.js';
import {installDepthwise} from './depthwise.js';
import {installEinsum} from './einsum.js';
import {installIdentity} from './identity.js';
import {installFastMatMul} from './matmul.js';
import {installMaxPool} from './max-pool.js';
import {installSegmentSum} from './segment-sum.js';

const families = [
  installFastMatMul,
  installSegmentSum,
  installConv2d,
  installDepthwise,
  installEinsum,
  installIdentity,
  installMaxPool,
];

let undo: (() => void) | undefined;

/**
 * Gives the wasm backend the kernels that training needs and it lacks, gets wrong or runs slowly, for the whole
 * process. Needs `@tensorflow/tfjs-backend-wasm` imported; may be called before or after `setBackend('wasm')`.
 * Calling it again changes nothing.
 *
 * @returns a function that puts the backend's own kernels back
 * @throws Error if the wasm backend is not there
 */
export function installWasmKernels(): () => void {
  if (undo !== undefined) return undo;
  const undos = families.map(install => install());
  const installed = () => {
    if (undo !== installed) return;
    undo = undefined;
    undos.forEach(back => back());
  };
  undo = installed;
  return undo;
}

/**
 * `import 'tfjs-lora/wasm'`: training on tfjs's wasm backend, whole, right and fast. Importing it installs the kernels;
 * import `@tensorflow/tfjs-backend-wasm` first.
 */
import {installWasmKernels} from './install.js';

export {installWasmKernels};

installWasmKernels();

/**
 * The entry `tfjs-lora/wasm`: what tfjs's wasm backend lacks, gets wrong or runs slowly in training. Importing it
 * installs the kernels; import `@tensorflow/tfjs-backend-wasm` first.
 */
import {installWasmKernels} from './install.js';

export {installWasmKernels};

installWasmKernels();

import {Identity, type KernelFunc, type TensorInfo} from '@tensorflow/tfjs-core';
import type {WasmBackend} from './backend.js';
import {installer} from './register.js';

/**
 * Installs Identity that shares the data, as on the other backends and as the wasm backend's own Reshape does. The
 * stock kernel copies, and the tape clones whatever a gradient function will want, weights and activations alike.
 */
export const installIdentity = installer({
  [Identity]: stock => call => {
    const {dataId, shape, dtype} = call.inputs['x'] as TensorInfo;
    // Strings are not on the heap.
    if (dtype === 'string') return (stock as KernelFunc)(call);
    (call.backend as WasmBackend).incRef(dataId);
    return {dataId, shape, dtype};
  },
});

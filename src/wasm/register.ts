import {
  BatchMatMul,
  type GradConfig,
  type KernelConfig,
  type KernelFunc,
  getGradient,
  getKernel,
  registerGradient,
  registerKernel,
  unregisterGradient,
  unregisterKernel,
} from '@tensorflow/tfjs-core';

/** Kernels by name, each made from the one the wasm backend has, if it has one. */
export type Kernels = Readonly<Record<string, (stock: KernelFunc | undefined) => KernelFunc>>;

/**
 * A function that puts kernels in the place of the wasm backend's own, for the whole process, and adds gradients
 * where there are none. It may be called before or after `setBackend('wasm')`; again it changes nothing. It returns
 * a function that puts back what was there, and throws an Error if the wasm backend's package was not imported.
 */
export function installer(kernels: Kernels, gradients: readonly GradConfig[] = []): () => () => void {
  let undo: (() => void) | undefined;
  return () => {
    if (undo !== undefined) return undo;
    requireWasm();
    const steps = [
      ...Object.entries(kernels).map(([name, make]) => replaceKernel(name, make)),
      ...gradients.map(addGradient),
    ];
    const installed = () => {
      if (undo !== installed) return;
      undo = undefined;
      steps.forEach(back => back());
    };
    undo = installed;
    return undo;
  };
}

/** @throws Error if the wasm backend's package was not imported: its kernels would replace ours later */
function requireWasm(): void {
  if (getKernel(BatchMatMul, 'wasm')) return;
  throw new Error('the wasm backend is not there: import @tensorflow/tfjs-backend-wasm first');
}

function replaceKernel(kernelName: string, make: Kernels[string]): () => void {
  const stock = getKernel(kernelName, 'wasm') as KernelConfig | undefined;
  if (stock) unregisterKernel(kernelName, 'wasm');
  // The rest of the stock kernel stays: its set-up runs when the backend starts, and undoing needs it to have run.
  registerKernel({...stock, kernelName, backendName: 'wasm', kernelFunc: make(stock?.kernelFunc)});
  return () => {
    if (getKernel(kernelName, 'wasm')) unregisterKernel(kernelName, 'wasm');
    if (stock) registerKernel(stock);
  };
}

function addGradient(gradient: GradConfig): () => void {
  if (getGradient(gradient.kernelName)) return () => {};
  registerGradient(gradient);
  return () => {
    if (getGradient(gradient.kernelName) === gradient) unregisterGradient(gradient.kernelName);
  };
}

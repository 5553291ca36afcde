import type {DataType, KernelFunc, TensorInfo, TypedArray} from '@tensorflow/tfjs-core';

/** What is used here of the wasm backend, whose package a user need not have installed. */
export interface WasmBackend {
  wasm: {
    cwrap(name: string, returns: null, parameters: string[]): (...values: unknown[]) => void;
    tfjs: {disposeData(id: number): void};
  };
  dataIdMap: {get(dataId: object): {id: number; memoryOffset: number}; delete(dataId: object): boolean};
  /** New data; what it holds is undefined until it is written. */
  makeOutput(shape: number[], dtype: DataType, memoryOffset?: number): TensorInfo;
  disposeData(dataId: object): boolean;
  /** One more tensor shares this data. */
  incRef(dataId: object): void;
  /** The numbers of a tensor in place. Any later allocation may move the heap: take it after the last one. */
  typedArrayFromHeap(tensor: TensorInfo): TypedArray;
}

/** A kernel with its inputs and attributes typed. */
export function kernel<Inputs, Attrs>(
  run: (call: {inputs: Inputs; attrs: Attrs; backend: WasmBackend}) => TensorInfo,
): KernelFunc {
  return run as unknown as KernelFunc;
}

/** The numbers of a float32 tensor in place. */
export function floats(backend: WasmBackend, tensor: TensorInfo): Float32Array {
  return backend.typedArrayFromHeap(tensor) as Float32Array;
}

/** @throws Error if a tensor is not float32 */
export function requireFloat32(what: string, ...tensors: TensorInfo[]): void {
  if (tensors.every(({dtype}) => dtype === 'float32')) return;
  const dtypes = tensors.map(({dtype}) => dtype).join(' and ');
  throw new Error(`${what} on the wasm backend takes float32, got ${dtypes}`);
}

/**
 * Runs `use` with the id of a tensor that is the `index`-th block of `size` numbers in `tensor`, without a copy.
 * What the backend packs for that id is dropped with it.
 */
export function withView(
  backend: WasmBackend,
  tensor: TensorInfo,
  index: number,
  size: number,
  use: (id: number) => void,
): void {
  const offset = backend.dataIdMap.get(tensor.dataId).memoryOffset + index * size * 4;
  const view = backend.makeOutput([size], 'float32', offset);
  const {id} = backend.dataIdMap.get(view.dataId);
  try {
    use(id);
  } finally {
    backend.dataIdMap.delete(view.dataId);
    backend.wasm.tfjs.disposeData(id);
  }
}

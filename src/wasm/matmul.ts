/**
 * Fast matrix products on the wasm backend.
 *
 * The backend hands a product to its fast library only when there is one matrix on each side and no
 * transpose flag; anything else runs a plain loop, 10 to 50 times slower. Both products in the gradient
 * of a matMul carry a flag, so training pays for it at every step. Here a flagged operand is transposed
 * first, and a batch runs as separate products on views of the heap, without copies.
 */
import {
  BatchMatMul,
  type DataType,
  type KernelFunc,
  type TensorInfo,
  Transpose,
  _FusedMatMul,
  broadcast_util,
  getKernel,
  registerKernel,
  unregisterKernel,
  util,
} from '@tensorflow/tfjs-core';

/** What is used here of the wasm backend, whose package a user need not have installed. */
interface WasmBackend {
  wasm: {
    cwrap(name: string, returns: null, parameters: string[]): (...values: unknown[]) => void;
    tfjs: {disposeData(id: number): void};
  };
  dataIdMap: {get(dataId: object): {id: number; memoryOffset: number}; delete(dataId: object): boolean};
  makeOutput(shape: number[], dtype: DataType, memoryOffset?: number): TensorInfo;
  disposeData(dataId: object): boolean;
}

/** The fast product `out = activation(a b + bias)` of single matrices, given by the ids of heap tensors. */
type Product = (
  a: {id: number; rows: number; columns: number},
  b: {id: number; rows: number; columns: number},
  out: number,
  epilogue: Epilogue,
) => void;

interface Epilogue {
  activation: number;
  bias: number;
  preluWeights: number;
  leakyreluAlpha: number;
}

const plain: Epilogue = {activation: 0, bias: 0, preluWeights: 0, leakyreluAlpha: 0};

/** The backend's own numbering of activations. */
const activations = ['linear', 'relu', 'relu6', 'prelu', 'leakyrelu', 'sigmoid', 'elu'];

const products = new WeakMap<WasmBackend, Product>();

function productOf(backend: WasmBackend): Product {
  let product = products.get(backend);
  if (product === undefined) {
    const run = backend.wasm.cwrap(_FusedMatMul, null, [
      ...['number', 'array', 'number', 'number', 'array', 'number'],
      ...['number', 'number', 'number', 'number', 'number', 'number', 'number'],
    ]);
    const shapeBytes = (m: {rows: number; columns: number}) =>
      new Uint8Array(new Int32Array([1, m.rows, m.columns]).buffer);
    product = (a, b, out, {activation, bias, preluWeights, leakyreluAlpha}) =>
      run(
        ...[a.id, shapeBytes(a), 3, b.id, shapeBytes(b), 3, false, false],
        ...[activation, bias, preluWeights, leakyreluAlpha, out],
      );
    products.set(backend, product);
  }
  return product;
}

/**
 * The backend keeps a packed copy of every right operand, found again by the tensor's data alone. The same
 * data under another shape (a reshape shares it) would silently meet the wrong copy, so only the shape seen
 * first may use it.
 */
const packedShapes = new WeakMap<object, string>();

function mayUsePackedCopy(b: TensorInfo, rows: number, columns: number): boolean {
  const shape = `${rows}x${columns}`;
  const packed = packedShapes.get(b.dataId);
  if (packed === undefined) packedShapes.set(b.dataId, shape);
  return packed === undefined || packed === shape;
}

/** Runs `use` with the id of a tensor that is the `index`-th matrix of `size` numbers in `tensor`. */
function withView(
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

/** For every matrix of a batch of shape `out`, the index of the matrix it takes from a batch of shape `of`. */
function batchIndices(of: number[], out: number[]): number[] {
  const missing = out.length - of.length;
  let indices = [0];
  out.forEach((extent, axis) => {
    const own = axis < missing ? 1 : of[axis - missing]!;
    indices = indices.flatMap(index =>
      Array.from({length: extent}, (_, i) => index * own + (own === 1 ? 0 : i)),
    );
  });
  return indices;
}

/** `x` with its last two axes swapped; the caller disposes it. */
function transposed(backend: WasmBackend, x: TensorInfo): TensorInfo {
  const rank = x.shape.length;
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const batch = util.sizeFromShape(x.shape.slice(0, -2));
  const kernel = getKernel(Transpose, 'wasm').kernelFunc;
  const flat = {...x, shape: [batch, rows, columns]};
  const out = kernel({inputs: {x: flat}, backend, attrs: {perm: [0, 2, 1]}}) as TensorInfo;
  return {...out, shape: [...x.shape.slice(0, rank - 2), columns, rows]};
}

function multiply(
  backend: WasmBackend,
  a: TensorInfo,
  b: TensorInfo,
  flags: {transposeA: boolean; transposeB: boolean},
  epilogue: Epilogue,
): TensorInfo {
  if (a.dtype !== 'float32' || b.dtype !== 'float32') {
    throw new Error(`matMul on the wasm backend takes float32, got ${a.dtype} and ${b.dtype}`);
  }
  const left = flags.transposeA ? transposed(backend, a) : a;
  const right = flags.transposeB ? transposed(backend, b) : b;
  try {
    const [m, k] = left.shape.slice(-2) as [number, number];
    const [inner, n] = right.shape.slice(-2) as [number, number];
    if (k !== inner) {
      throw new Error(`matMul: shapes [${left.shape}] and [${right.shape}] (transposed) do not fit`);
    }
    const leftBatch = left.shape.slice(0, -2);
    const rightBatch = right.shape.slice(0, -2);
    const outBatch = broadcast_util.assertAndGetBroadcastShape(leftBatch, rightBatch);
    const out = backend.makeOutput([...outBatch, m, n], 'float32');
    if (util.sizeFromShape(out.shape) === 0) return out;
    const product = productOf(backend);
    const idOf = (tensor: TensorInfo) => backend.dataIdMap.get(tensor.dataId).id;

    if (util.sizeFromShape(rightBatch) === 1) {
      const rows = util.sizeFromShape(out.shape) / n;
      const run = (id: number) =>
        product({id: idOf(left), rows, columns: k}, {id, rows: k, columns: n}, idOf(out), epilogue);
      if (mayUsePackedCopy(right, k, n)) run(idOf(right));
      else withView(backend, right, 0, k * n, run);
      return out;
    }
    const leftIndices = batchIndices(leftBatch, outBatch);
    const rightIndices = batchIndices(rightBatch, outBatch);
    leftIndices.forEach((leftIndex, i) =>
      withView(backend, left, leftIndex, m * k, leftId =>
        withView(backend, right, rightIndices[i]!, k * n, rightId =>
          withView(backend, out, i, m * n, outId =>
            product({id: leftId, rows: m, columns: k}, {id: rightId, rows: k, columns: n}, outId, epilogue),
          ),
        ),
      ),
    );
    return out;
  } finally {
    if (left !== a) backend.disposeData(left.dataId);
    if (right !== b) backend.disposeData(right.dataId);
  }
}

const batchMatMul = (({inputs, backend, attrs}) => {
  const {a, b} = inputs as {a: TensorInfo; b: TensorInfo};
  const flags = attrs as unknown as {transposeA: boolean; transposeB: boolean};
  return multiply(backend as WasmBackend, a, b, flags, plain);
}) satisfies KernelFunc;

const fusedMatMul = (({inputs, backend: anyBackend, attrs}) => {
  const backend = anyBackend as WasmBackend;
  const {a, b, bias, preluActivationWeights} = inputs as Record<string, TensorInfo> & {
    a: TensorInfo;
    b: TensorInfo;
  };
  const {transposeA, transposeB, activation, leakyreluAlpha} = attrs as unknown as {
    transposeA: boolean;
    transposeB: boolean;
    activation: string;
    leakyreluAlpha?: number;
  };
  const code = activations.indexOf(activation);
  if (code < 0) throw new Error(`fused matMul on the wasm backend has no activation ${activation}`);
  if (bias !== undefined && bias !== null && bias.shape.length !== 1) {
    throw new Error(`fused matMul on the wasm backend takes a bias of rank 1, got shape [${bias.shape}]`);
  }
  const idOf = (tensor?: TensorInfo | null) => (tensor ? backend.dataIdMap.get(tensor.dataId).id : 0);
  return multiply(
    backend,
    a,
    b,
    {transposeA, transposeB},
    {
      activation: code,
      bias: idOf(bias),
      preluWeights: idOf(preluActivationWeights),
      leakyreluAlpha: leakyreluAlpha ?? 0,
    },
  );
}) satisfies KernelFunc;

let uninstall: (() => void) | undefined;

/**
 * Replaces the wasm backend's matMul and fused matMul by fast ones, for the whole process.
 * Needs `@tensorflow/tfjs-backend-wasm` imported; may be called before or after `setBackend('wasm')`.
 * Calling it again changes nothing.
 *
 * @returns a function that puts the backend's own kernels back
 * @throws Error if the wasm backend is not there
 */
export function installFastMatMul(): () => void {
  if (uninstall !== undefined) return uninstall;
  const replaced = [BatchMatMul, _FusedMatMul].map(name => getKernel(name, 'wasm'));
  if (replaced.some(kernel => !kernel)) {
    throw new Error('the wasm backend is not there: import @tensorflow/tfjs-backend-wasm first');
  }
  const replace = (index: number, kernelFunc: KernelFunc) => {
    const kernel = replaced[index]!;
    unregisterKernel(kernel.kernelName, 'wasm');
    registerKernel({...kernel, kernelFunc});
  };
  replace(0, batchMatMul);
  replace(1, fusedMatMul);
  uninstall = () => {
    if (uninstall === undefined) return;
    uninstall = undefined;
    replaced.forEach(kernel => {
      unregisterKernel(kernel.kernelName, 'wasm');
      registerKernel(kernel);
    });
  };
  return uninstall;
}

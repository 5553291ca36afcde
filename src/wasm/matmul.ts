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
  type BatchMatMulAttrs,
  type TensorInfo,
  Transpose,
  _FusedMatMul,
  type _FusedMatMulAttrs,
  broadcast_util,
  getKernel,
  util,
} from '@tensorflow/tfjs-core';
import {type WasmBackend, kernel, requireFloat32, withView} from './backend.js';
import {type Epilogue, plain, productOf} from './product.js';
import {installer} from './register.js';

/** The backend's own numbering of activations. */
const activations = ['linear', 'relu', 'relu6', 'prelu', 'leakyrelu', 'sigmoid', 'elu'];

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
  requireFloat32('matMul', a, b);
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
    // XNNPACK refuses a sum of nothing, and leaves the output as it found it: add up one zero instead.
    if (k === 0) {
      backend.disposeData(out.dataId);
      return sumOfZero(backend, [...outBatch, m, 1], [1, n], epilogue);
    }
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

function sumOfZero(backend: WasmBackend, left: number[], right: number[], epilogue: Epilogue): TensorInfo {
  const [a, b] = [left, right].map(shape => {
    const zeros = backend.makeOutput(shape, 'float32');
    backend.typedArrayFromHeap(zeros).fill(0);
    return zeros;
  }) as [TensorInfo, TensorInfo];
  try {
    return multiply(backend, a, b, {transposeA: false, transposeB: false}, epilogue);
  } finally {
    for (const {dataId} of [a, b]) backend.disposeData(dataId);
  }
}

interface Operands {
  a: TensorInfo;
  b: TensorInfo;
}

interface FusedOperands extends Operands {
  bias?: TensorInfo | null;
  preluActivationWeights?: TensorInfo | null;
}

const batchMatMul = kernel<Operands, BatchMatMulAttrs>(({inputs: {a, b}, backend, attrs}) =>
  multiply(backend, a, b, attrs, plain),
);

const fusedMatMul = kernel<FusedOperands, _FusedMatMulAttrs>(({inputs, backend, attrs}) => {
  const {a, b, bias, preluActivationWeights} = inputs;
  const {activation, leakyreluAlpha} = attrs;
  const code = activations.indexOf(activation);
  if (code < 0) throw new Error(`fused matMul on the wasm backend has no activation ${activation}`);
  if (bias !== undefined && bias !== null && bias.shape.length !== 1) {
    throw new Error(`fused matMul on the wasm backend takes a bias of rank 1, got shape [${bias.shape}]`);
  }
  const idOf = (tensor?: TensorInfo | null) => (tensor ? backend.dataIdMap.get(tensor.dataId).id : 0);
  return multiply(backend, a, b, attrs, {
    activation: code,
    bias: idOf(bias),
    preluWeights: idOf(preluActivationWeights),
    leakyreluAlpha: leakyreluAlpha ?? 0,
  });
});

/** Installs the fast matMul and fused matMul; see {@link installer}. */
export const installFastMatMul = installer({
  [BatchMatMul]: () => batchMatMul,
  [_FusedMatMul]: () => fusedMatMul,
});

import {_FusedMatMul} from '@tensorflow/tfjs-core';
import type {WasmBackend} from './backend.js';

/** A matrix of `rows` x `columns` float32 numbers, by the id of its data on the heap. */
export interface HeapMatrix {
  id: number;
  rows: number;
  columns: number;
}

/** What follows a product: activation(a b + bias). Ids of data; 0 where there is none. */
export interface Epilogue {
  activation: number;
  bias: number;
  preluWeights: number;
  leakyreluAlpha: number;
}

export const plain: Epilogue = {activation: 0, bias: 0, preluWeights: 0, leakyreluAlpha: 0};

/** The fast product `out = activation(a b + bias)` of single matrices; `out` is the id of a matrix made before. */
export type Product = (a: HeapMatrix, b: HeapMatrix, out: number, epilogue: Epilogue) => void;

const products = new WeakMap<WasmBackend, Product>();

/**
 * The backend's fast product. A right operand is packed when its id is first seen and the packed copy is kept until
 * the id is disposed. Packing may move the heap: take no view before and use it after.
 */
export function productOf(backend: WasmBackend): Product {
  let product = products.get(backend);
  if (product === undefined) {
    const run = backend.wasm.cwrap(_FusedMatMul, null, [
      ...['number', 'array', 'number', 'number', 'array', 'number'],
      ...['number', 'number', 'number', 'number', 'number', 'number', 'number'],
    ]);
    const shapeBytes = (m: HeapMatrix) => new Uint8Array(new Int32Array([1, m.rows, m.columns]).buffer);
    product = (a, b, out, {activation, bias, preluWeights, leakyreluAlpha}) =>
      run(
        ...[a.id, shapeBytes(a), 3, b.id, shapeBytes(b), 3, false, false],
        ...[activation, bias, preluWeights, leakyreluAlpha, out],
      );
    products.set(backend, product);
  }
  return product;
}

import {mul} from '@tensorflow/tfjs-core';
import {randomOrthonormal} from '../linalg/orthonormal.js';
import {expectBoolean, expectNumber, expectOptions} from '../options.js';
import {splitSeed} from '../random.js';
import {recipe} from '../recipe.js';
import type {Initializer} from './initializer.js';

/**
 * `a` with orthonormal columns times `gain`, `b = 0`; with `both`, `b` has orthonormal rows too (a symmetric start).
 * Where rank > m the columns cannot be orthonormal: then the rows of `a` are.
 */
export const orthogonal = /* @__PURE__ */ recipe(
  'orthogonal',
  (options: {gain?: number; both?: boolean} = {}): Initializer => {
    expectOptions('orthogonal', options, ['gain', 'both']);
    const {gain = 1, both = false} = options;
    expectNumber('orthogonal: gain', gain, 'a number other than 0', g => g !== 0);
    expectBoolean('orthogonal: both', both);
    return ({weight: {shape}, rank, seed}) => ({
      a: mul(randomOrthonormal(shape[0], rank, splitSeed(seed, 'a')), gain),
      ...(both && {b: mul(randomOrthonormal(rank, shape[1], splitSeed(seed, 'b')), gain)}),
    });
  },
);

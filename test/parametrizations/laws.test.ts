import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {readdirSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import {beforeAll, describe, expect, test} from 'vitest';
import {checkLaws, expectLaws} from '../../src/testing/index.js';
import {members, shapes} from './members.js';
import {record} from './oracle.js';

const rows = Object.entries(members).flatMap(([method, forms]) =>
  Object.entries(forms).map(([form, parametrization]) => ({method, form, parametrization})),
);
const more = {
  shapes: [
    [1, 1],
    [2, 17],
    [16, 16],
  ],
  seed: 7,
} as const;

describe.each(['cpu', 'wasm'])('laws on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });

  test.each(rows)('$form', ({method, parametrization}) => {
    const usual = shapes[method] && {shapes: shapes[method]};
    expectLaws(parametrization, usual);
    expectLaws(parametrization, {...more, ...usual});
    if (backend !== 'cpu') return;
    for (const {law, residual, tolerance} of checkLaws(parametrization, usual))
      record(method, law, residual, tolerance);
  });
});

test('every parametrization is held to the laws', () => {
  const files = readdirSync(fileURLToPath(new URL('../../src/parametrizations', import.meta.url)));
  expect(Object.keys(members).sort()).toEqual(files.map(file => file.replace('.ts', '')).sort());
});

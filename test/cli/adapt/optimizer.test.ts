import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {rankFor, trainedAt} from '../../../src/cli/adapt/budget.js';
import {type Method, methods} from '../../../src/cli/adapt/methods.js';
import {buildOptimizer} from '../../../src/cli/adapt/optimizer.js';
import {type Options, readOptions} from '../../../src/cli/adapt/options.js';
import {chooseBackend} from '../../../src/cli/backend.js';
import {byteTransformer, crossEntropy, trainableVariables} from '../../../src/cli/byte-lm/model.js';
import {innerNames} from '../../../src/cli/inner.js';

let model: tf.LayersModel;
beforeAll(async () => {
  await chooseBackend('wasm');
  model = byteTransformer({context: 16, width: 16, blocks: 1, heads: 2});
});
afterAll(() => model.dispose());

const build = (...args: string[]) => buildOptimizer(model, readOptions(args) as Options);

test('every matrix is a target, or those that match', () => {
  const treated = (...args: string[]) => {
    const optimizer = build(...args);
    const rows = optimizer.explain(model, null).filter(row => row.treatment !== 'freeze');
    optimizer.dispose();
    expect(rows.every(row => row.treatment === 'lora')).toBe(true);
    return rows.map(row => row.name);
  };
  expect(treated()).toEqual(model.weights.filter(w => w.shape.length === 2).map(w => w.originalName));
  expect(treated('--targets', 'query|value')).toEqual([
    'block0/attention/query/kernel',
    'block0/attention/value/kernel',
  ]);
});

test.each(innerNames)('%s lowers the loss', inner => {
  const own = byteTransformer({context: 16, width: 16, blocks: 1, heads: 2});
  const optimizer = buildOptimizer(own, readOptions(['--inner', inner, '--steps', '20']) as Options);
  const bytes = tf.tensor2d([[97, 98, 97, 98, 97, 98]], [1, 6], 'int32');
  const step = () =>
    tf.tidy(() => {
      const loss = () => crossEntropy(bytes, own.apply(bytes) as tf.Tensor);
      return optimizer.minimize(loss, true, trainableVariables(own))!.dataSync()[0]!;
    });
  const first = step();
  let last = first;
  for (let i = 1; i < 20; i++) last = step();
  expect(last).toBeLessThan(first);
  optimizer.dispose();
  bytes.dispose();
  own.dispose();
});

test('targets that name nothing, and a rank that saves nothing, are told', () => {
  expect(() => build('--targets', 'nothing')).toThrow(
    /--targets nothing names no matrix; there is .*block\*\/mlp\/up/,
  );
  expect(() => build('--rank', '8')).toThrow(/--rank 8 saves nothing on .*\[16 x 16\]: give at most 7/);
  build('--rank', '7').dispose();
  expect(() => build('--method', 'relora', '--rank', '9')).toThrow(/--rank 9 saves nothing.*at most 7/);
});

test('the rank at which a method trains about as many numbers as asked', () => {
  const matrices = [
    {name: 'a', shape: [128, 128] as [number, number]},
    {name: 'b', shape: [128, 512] as [number, number]},
  ];
  const {lora, full} = methods as Record<'lora' | 'full', Method>;
  expect(trainedAt(lora, 4, matrices)).toBe(4 * (256 + 640));
  expect(trainedAt(full, 0, matrices)).toBe(128 * 128 + 128 * 512);
  for (const rank of [1, 4, 31, 63])
    expect(rankFor(lora, matrices, trainedAt(lora, rank, matrices))).toBe(rank);
  // In between: the nearer ratio. Beyond what saves something: the largest that does.
  expect(rankFor(lora, matrices, 2.4 * 896)).toBe(2);
  expect(rankFor(lora, matrices, 2.6 * 896)).toBe(3);
  expect(rankFor(lora, matrices, 1e9)).toBe(63);
  expect(rankFor(lora, matrices, 1)).toBe(1);
  expect(rankFor(full, matrices, 1000)).toBeNull();
});

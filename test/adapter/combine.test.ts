import * as tf from '@tensorflow/tfjs';
import {beforeAll, expect, test} from 'vitest';
import type {Adapter} from '../../src/adapter/adapter.js';
import {combine} from '../../src/adapter/combine.js';
import {lora} from '../../src/index.js';
import {learned} from './learned.js';

beforeAll(() => tf.setBackend('cpu'));

test('a sum whose factors would not be finite is refused, whatever makes them so', () => {
  const {adapter} = learned({'a/kernel': [9, 8]}, lora({rank: 2}));
  const [weight] = adapter.weights;
  for (const factor of [1e42, -1e300]) {
    expect(() => combine([{adapter, weight: factor}])).toThrow(
      /combine: a\/kernel would have -?Infinity in its b/,
    );
  }
  const {shape, values} = weight!.factors['a']!;
  const a = {shape, values: Float32Array.from(values, (value, i) => (i === 3 ? NaN : value))};
  const broken: Adapter = {...adapter, weights: [{...weight!, factors: {...weight!.factors, a}}]};
  expect(() =>
    combine([
      {adapter, weight: 0.5},
      {adapter: broken, weight: 0.5},
    ]),
  ).toThrow(/combine: a\/kernel would have NaN in its a/);
  expect(combine([{adapter, weight: 2}]).weights).toHaveLength(1);
});

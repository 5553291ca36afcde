import * as tf from '@tensorflow/tfjs';
import {beforeAll, expect, test} from 'vitest';
import {bytesPerNumber} from '../../src/dtypes.js';

beforeAll(() => tf.setBackend('cpu'));

test.each(['float32', 'int32', 'bool', 'complex64'] as const)(
  '%s is written in so many bytes',
  async dtype => {
    const tensor = dtype === 'complex64' ? tf.complex([1, 2, 3], [4, 5, 6]) : tf.ones([3], dtype);
    const {data} = await tf.io.encodeWeights([{name: 'x', tensor}]);
    expect(data.byteLength).toBe(3 * bytesPerNumber(dtype)!);
  },
);

test.each(['uint8', 'uint16', 'float16'] as const)('%s is read from so many bytes', dtype => {
  const bytes = 2 * bytesPerNumber(dtype)!;
  const data = new Uint8Array([
    ...Array<number>(bytes).fill(0),
    ...new Uint8Array(Float32Array.of(7).buffer),
  ]);
  const {after} = tf.io.decodeWeights(data.buffer, [
    {
      name: 'x',
      shape: [2],
      dtype: 'float32',
      quantization: {dtype, ...(dtype !== 'float16' && {scale: 1, min: 0})},
    },
    {name: 'after', shape: [1], dtype: 'float32'},
  ]);
  expect([...after!.dataSync()]).toEqual([7]);
});

test('what has no such number', () => {
  for (const name of ['string', '', 'constructor', '__proto__', 'float64'])
    expect(bytesPerNumber(name)).toBeUndefined();
});

import {expect, test} from 'vitest';
import {decodeSafetensors, encodeSafetensors} from '../../src/cli/safetensors.js';

test('the layout of the format', () => {
  const file = Buffer.from(
    encodeSafetensors([{name: 'w', shape: [1, 2], values: Float32Array.of(1, -2)}], {k: 'v'}),
  );
  const header = Number(file.readBigUInt64LE());
  expect(header % 8).toBe(0);
  expect(JSON.parse(file.toString('utf8', 8, 8 + header))).toEqual({
    __metadata__: {k: 'v'},
    w: {dtype: 'F32', shape: [1, 2], data_offsets: [0, 8]},
  });
  expect(file.subarray(8 + header).toString('hex')).toBe('0000803f000000c0');
});

test('what is written is read back', () => {
  const tensors = [
    {name: 'a', shape: [2, 2], values: Float32Array.of(0.1, 1e-30, 3e30, -0)},
    {name: 'b/\u00e4', shape: [0], values: new Float32Array()},
    {name: 'c', shape: [], values: Float32Array.of(7)},
  ];
  expect(decodeSafetensors(encodeSafetensors(tensors, {rank: '4'}))).toEqual({
    tensors,
    metadata: {rank: '4'},
  });
});

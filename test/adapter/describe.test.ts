import {existsSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {describe, expect, test} from 'vitest';
import {describeSafetensors} from '../../src/adapter/describe.js';
import {toKeras} from '../../src/adapter/keras.js';
import {toPeft} from '../../src/adapter/peft/to-peft.js';
import {decodeSafetensors, encodeSafetensors} from '../../src/adapter/safetensors.js';
import {lora} from '../../src/index.js';
import {learned} from './learned.js';
import {readTensors} from './torch.js';

const data = process.env['TFJS_LORA_DATA'] ?? fileURLToPath(new URL('../../../shared/data', import.meta.url));
const checkpoint = join(data, 'lora-safetensors', 'analog_svd_rank4.safetensors');

describe('a table of what a file holds', () => {
  test('of PEFT and Keras, with the norm of every product', async () => {
    await tf.setBackend('cpu');
    const shapes = {'a/kernel': [6, 5], 'c/kernel': [3, 2, 4, 5], 'e/embeddings': [7, 5]};
    const {adapter} = learned(shapes, lora({rank: 2}));
    for (const bytes of [toPeft(adapter)['adapter_model.safetensors'], toKeras(adapter)]) {
      const {pairs, others} = describeSafetensors(bytes);
      expect(others).toEqual([]);
      const rows = Object.fromEntries(pairs.map(row => [row.module.replace('base_model.model.', ''), row]));
      for (const {path, factors} of adapter.weights) {
        const [a, b] = [factors['a']!, factors['b']!];
        const [m, n] = [a.shape[0]!, b.shape[1]!];
        let norm2 = 0;
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++)
            norm2 += (a.values[i * 2]! * b.values[j]! + a.values[i * 2 + 1]! * b.values[n + j]!) ** 2;
        const module = path[0]!;
        const kind = {a: 'dense', c: 'conv', e: 'embedding'}[module];
        expect(rows[module]).toMatchObject({kind, rank: 2, in: m, out: n, dtype: 'F32'});
        expect(rows[module]!.norm).toBeCloseTo(Math.sqrt(norm2), 10);
      }
    }
  });

  test('lists what is no pair', () => {
    const tensor = (...shape: number[]) => ({
      shape,
      values: new Float32Array(shape.reduce((product, axis) => product * axis, 1)),
    });
    const bytes = encodeSafetensors({
      tensors: new Map([
        ['x.lora_down.weight', tensor(2, 3)],
        ['x.lora_up.weight', tensor(4, 2)],
        ['x.alpha', tensor()],
        ['y.lora.down.weight', tensor(2, 3)],
        ['z:down', tensor(2, 3)],
        ['z:up', tensor(4, 3)],
      ]),
      metadata: {note: 'n'},
    });
    expect(describeSafetensors(bytes)).toEqual({
      pairs: [{module: 'x', kind: 'dense', rank: 2, in: 3, out: 4, dtype: 'F32', norm: 0}],
      others: ['x.alpha', 'y.lora.down.weight', 'z:down', 'z:up'],
      metadata: {note: 'n'},
    });
  });

  test('lists what is of numbers that are not read', () => {
    const shapes: Record<string, [string, number[], number]> = {
      'x.lora_A.weight': ['F32', [1, 2], 8],
      'x.lora_B.weight': ['F32', [2, 1], 8],
      'q.lora_A.weight': ['F8_E4M3', [1, 2], 2],
      'q.lora_B.weight': ['F32', [2, 1], 8],
      count: ['I64', [], 8],
    };
    let end = 0;
    const header = Object.fromEntries(
      Object.entries(shapes).map(([name, [dtype, shape, size]]) => [
        name,
        {dtype, shape, data_offsets: [end, (end += size)]},
      ]),
    );
    const text = Buffer.from(JSON.stringify(header));
    const bytes = Buffer.alloc(8 + text.length + end);
    bytes.writeBigUInt64LE(BigInt(text.length));
    text.copy(bytes, 8);
    const {pairs, others} = describeSafetensors(bytes);
    expect(pairs.map(({module}) => module)).toEqual(['x']);
    expect(others).toEqual(['q.lora_A.weight', 'q.lora_B.weight', 'count']);
    expect(() => decodeSafetensors(bytes)).toThrow(/'q.lora_A.weight' is F8_E4M3/);
  });

  test('of a real checkpoint in F16, with names and a header of another library', context => {
    if (!existsSync(checkpoint))
      return context.skip(`there is no ${checkpoint}; TFJS_LORA_DATA names the folder`);
    const bytes = readFileSync(checkpoint);
    const {pairs, others, metadata} = describeSafetensors(bytes);
    expect([pairs.length, others]).toEqual([192, []]);
    const tensors = readTensors(bytes);
    for (const {module, kind, rank, in: ins, out, dtype, norm} of pairs) {
      expect([kind, dtype, String(rank)]).toEqual(['dense', 'F16', metadata[`${module}:rank`]]);
      const [up, down] = [tensors.get(`${module}:up`)!, tensors.get(`${module}:down`)!];
      expect([up.shape, down.shape]).toEqual([
        [out, rank],
        [rank, ins],
      ]);
      if (ins * out > 500_000) continue;
      let norm2 = 0;
      for (let o = 0; o < out; o++) {
        for (let i = 0; i < ins; i++) {
          let sum = 0;
          for (let t = 0; t < rank; t++) sum += up.values[o * rank + t]! * down.values[t * ins + i]!;
          norm2 += sum ** 2;
        }
      }
      expect(Math.abs(norm / Math.sqrt(norm2) - 1)).toBeLessThan(1e-9);
    }
    return undefined;
  });
});

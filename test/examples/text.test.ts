import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, expect, test} from 'vitest';

const text = (name: string) => new URL(`../../examples/shared/text/${name}.mjs`, import.meta.url).href;
const {encode} = (await import(text('characters'))) as {
  encode: (text: string, characters: string[]) => Int32Array;
};
const {characterModel, loadWeights, nats} = (await import(text('char-model'))) as {
  characterModel: (sizes: {characters: number; units: number}) => tf.Sequential;
  loadWeights: (model: tf.Sequential, folder: string) => void;
  nats: (model: tf.Sequential, codes: Int32Array, rows?: number) => Promise<number>;
};
const {banking77} = (await import(text('sentences'))) as {
  banking77: (folder: string) => {train: {text: string; label: string}[]};
};
const {words} = (await import(text('classifier'))) as {words: (text: string) => number[]};

const folder = mkdtempSync(join(tmpdir(), 'text-'));
beforeAll(() => tf.setBackend('cpu'));
afterAll(() => rmSync(folder, {recursive: true}));

test('characters outside the alphabet are written with those it has', () => {
  const characters = [..." abcdeABCD',-$3"];
  const spell = (given: string) => [...encode(given, characters)].map(code => characters[code]).join('');
  expect(spell('a “bé” (c) 1857 _d_ Æ £ ☃')).toBe("a 'be' ,c, 3333 d A  $  ".replace('A  $', 'Ae $'));
});

test('a row of a table may hold commas, doubled quotes and line ends', () => {
  const rows = 'text,category\nplain,a\n"one, two",b\n"he said ""no""\nand left",c\n';
  writeFileSync(join(folder, 'train.csv'), rows);
  writeFileSync(join(folder, 'test.csv'), 'text,category\nx,a\n');
  expect(banking77(folder).train).toEqual([
    {text: 'plain', label: 'a'},
    {text: 'one, two', label: 'b'},
    {text: 'he said "no"\nand left', label: 'c'},
  ]);
});

test('a sentence is its words, whatever their case', () => {
  expect(words('Where IS it?')).toEqual(words('where is it ?'));
  expect(words('where is it?')).not.toEqual(words('where is it'));
  expect(new Set(words('')).size).toBe(1);
});

test('the weights of a BasicLSTM model compute in tfjs what they did in TensorFlow', async () => {
  const [characters, units] = [5, 3];
  let state = 1;
  const random = () => (state = (state * 16807) % 2147483647) / 2147483647 - 0.5;
  const manifest: Record<string, {filename: string; shape: number[]}> = {};
  const made = (name: string, shape: number[]) => {
    const values = Float32Array.from({length: shape.reduce((a, b) => a * b, 1)}, () => 2 * random());
    const filename = name.replaceAll('/', '_');
    manifest[name] = {filename, shape};
    writeFileSync(join(folder, filename), values);
    return values;
  };
  const embedding = made('embedding', [characters, units]);
  const cells = [0, 1].map(k => {
    const name = `rnnlm/multi_rnn_cell/cell_${k}/basic_lstm_cell`;
    return {w: made(`${name}/weights`, [2 * units, 4 * units]), b: made(`${name}/biases`, [4 * units])};
  });
  const [softmaxW, softmaxB] = [
    made('rnnlm/softmax_w', [units, characters]),
    made('rnnlm/softmax_b', [characters]),
  ];
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));

  const times = (x: number[], w: Float32Array, b: Float32Array) =>
    Array.from(b, (start, j) => x.reduce((sum, value, i) => sum + value * w[i * b.length + j]!, start));
  const sigmoid = (z: number) => 1 / (1 + Math.exp(-z));
  const states = cells.map(() => ({c: Array<number>(units).fill(0), h: Array<number>(units).fill(0)}));
  const codes = Int32Array.from([0, 3, 1, 4, 2, 2, 0, 1, 3, 3]);
  let expected = 0;
  for (let t = 0; t + 1 < codes.length; t++) {
    let x = Array.from(embedding.subarray(codes[t]! * units, (codes[t]! + 1) * units));
    cells.forEach(({w, b}, k) => {
      const {c, h} = states[k]!;
      const z = times([...x, ...h], w, b);
      const gate = (g: number, u: number) => z[g * units + u]!;
      // i, j, f, o; the forget gate is opened by 1.
      const cell = c.map(
        (old, u) => old * sigmoid(gate(2, u) + 1) + sigmoid(gate(0, u)) * Math.tanh(gate(1, u)),
      );
      const hidden = cell.map((value, u) => Math.tanh(value) * sigmoid(gate(3, u)));
      states[k] = {c: cell, h: hidden};
      x = hidden;
    });
    const scores = times(x, softmaxW, softmaxB).map(Math.exp);
    expected -= Math.log(scores[codes[t + 1]!]! / scores.reduce((a, b) => a + b));
  }
  const model = characterModel({characters, units});
  loadWeights(model, folder);
  expect(await nats(model, codes, 1)).toBeCloseTo(expected / (codes.length - 1), 5);
});

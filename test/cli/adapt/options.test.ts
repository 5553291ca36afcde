import {expect, test} from 'vitest';
import {readOptions, textName} from '../../../src/cli/adapt/options.js';

test('defaults', () => {
  expect(readOptions([])).toMatchObject({
    text: [],
    rank: 4,
    alpha: 8,
    inner: 'adam',
    seed: 0,
    targets: undefined,
  });
  expect(readOptions([])!.out).toBeUndefined();
  expect(readOptions(['--help'])).toBeUndefined();
});

test('what is given is taken', () => {
  const args = '--rank 2 --lr 0.1 --steps 7 --targets query|key --inner sgd --seed 9 --out x --backend cpu';
  expect(readOptions(args.split(' '))).toEqual({
    ...{text: [], rank: 2, alpha: 4, lr: 0.1, steps: 7, targets: /query|key/, inner: 'sgd', seed: 9},
    ...{out: 'x', backend: 'cpu'},
  });
});

test('several texts, and a run named after the first', () => {
  const options = readOptions(['--text', 'a/My notes.md', 'b.txt', '--text', 'c.txt'])!;
  expect(options.text).toEqual(['a/My notes.md', 'b.txt', 'c.txt']);
  expect(textName(options.text)).toBe('My-notes');
});

import {expect, test} from 'vitest';
import {methods} from '../../../src/cli/adapt/methods.js';
import {
  type CompareOptions,
  type Options,
  readOptions,
  textName,
  type Told,
} from '../../../src/cli/adapt/options.js';
import {UsageError} from '../../../src/cli/usage-error.js';

const read = (line: string) => readOptions(line === '' ? [] : line.split(' '));
const single = (line: string) => read(line) as Options;
const several = (line: string) => read(line) as CompareOptions;
const told = (line: string) => (read(line) as Told).tell;

test('defaults', () => {
  expect(read('')).toMatchObject({
    text: [],
    method: 'lora',
    rank: 4,
    alpha: 8,
    lr: 5e-3,
    steps: 150,
    inner: 'adam',
    seed: 0,
    targets: undefined,
  });
  expect(single('').out).toBeUndefined();
});

test('what is given is taken', () => {
  const args = '--rank 2 --lr 0.1 --steps 7 --targets query|key --inner sgd --seed 9 --out x --backend cpu';
  expect(read(args)).toEqual({
    ...{text: [], method: 'lora', rank: 2, alpha: 4, lr: 0.1, steps: 7, targets: /query|key/, inner: 'sgd'},
    ...{seed: 9, out: 'x', backend: 'cpu'},
  });
});

test('several texts, and a run named after the first', () => {
  const options = readOptions(['--text', 'a/My notes.md', 'b.txt', '--text', 'c.txt']) as Options;
  expect(options.text).toEqual(['a/My notes.md', 'b.txt', 'c.txt']);
  expect(textName(options.text)).toBe('My-notes');
});

test('methods by name: their defaults, and rates that go with the inner optimizer', () => {
  expect(single('--method full')).toMatchObject({
    method: 'full',
    rank: null,
    alpha: null,
    lr: methods['full']!.defaultRate,
  });
  for (const name of ['LoRA-Plus', 'lora_plus', 'LORAPLUS'])
    expect(single(`--method ${name}`).method).toBe('loraPlus');
  const ratio = methods['full']!.defaultRate / methods['lora']!.defaultRate;
  expect(single('--method full --inner sgd').lr).toBeCloseTo(0.3 * ratio, 6);
  expect(single('--inner sgd').lr).toBe(0.3);
  expect(single('--method full --lr 0.7').lr).toBe(0.7);
});

test('a method that is meant for another optimizer than adam gets it, unless one is asked for', () => {
  const {inner, defaultRate} = methods['randomProjection']!;
  expect(inner).toBe('sgd');
  expect(single('--method randomProjection')).toMatchObject({inner: 'sgd', lr: defaultRate});
  expect(single('--method randomProjection --inner sgd').lr).toBe(defaultRate);
  const adam = single('--method randomProjection --inner adam');
  expect(adam.inner).toBe('adam');
  expect(adam.lr).toBeCloseTo((defaultRate / 0.3) * methods['lora']!.defaultRate, 5);
  expect(single('--method lora').inner).toBe('adam');
  expect(several('--compare lora,randomProjection').inner).toBeUndefined();
  expect(several('--compare lora --inner sgd').inner).toBe('sgd');
});

test('lists and help are told, within 80 columns', () => {
  const list = told('--method list');
  for (const name of Object.keys(methods)) expect(list).toContain(`\n${name} `);
  expect(told('--compare list')).toBe(list);
  expect(told('--help')).toContain('--compare');
  for (const line of [...list.split('\n'), ...told('--help').split('\n')])
    expect(line.length).toBeLessThanOrEqual(80);
});

test('a comparison', () => {
  expect(read('--compare')).toMatchObject({rank: 4, lr: undefined, lrs: [1], steps: 150});
  expect(several('--compare').compare.length).toBe(6);
  expect(several('--compare lora,Full --steps 3').compare).toEqual(['lora', 'full']);
  expect(several('--compare lora full').compare).toEqual(['lora', 'full']);
  expect(several('--compare --lrs 0.3,1,3 --lr 0.1')).toMatchObject({lrs: [0.3, 1, 3], lr: 0.1});
});

test.each([
  ['--method ia3', /unknown method "ia3": there is lora, /],
  ['--method galroe', /unknown method "galroe", perhaps galore: there is lora, /],
  ['--method lorra-plus', /unknown method "lorra-plus", perhaps loraPlus: there is lora, /],
  ['--compare lora,ful', /--compare: unknown method "ful", perhaps full/],
  ['--compare lora,,full', /--compare must not be empty/],
  ['--compare lora,full,LORA', /--compare names lora twice/],
  ['--compare lora --method full', /--method goes without --compare/],
  ['--compare lora --alpha 3', /--alpha goes without --compare/],
  ['--compare lora --lrs 1,fast', /--lrs takes a number above 0, got "fast"/],
  ['--compare lora --inner newton', /unknown optimizer "newton"/],
  ['--lrs 1,2', /--lrs goes with --compare/],
  ['--method full --rank 3', /--rank means nothing to --method full \(all numbers/],
  ['--method full --alpha 3', /--alpha means nothing to --method full/],
])('%s is told', (line, message) => {
  expect(() => read(line)).toThrow(UsageError);
  expect(() => read(line)).toThrow(message);
});

import {afterEach, expect, test, vi} from 'vitest';
import {decimalOption, integerOption} from '../../src/cli/options.js';
import {mistakeOf, run} from '../../src/cli/run.js';
import {UsageError} from '../../src/cli/usage-error.js';

afterEach(() => vi.restoreAllMocks());

/** The exit code of a command line, and what it wrote. */
async function runQuietly(...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  vi.spyOn(process.stdout, 'write').mockImplementation(text => out.push(String(text)) > 0);
  vi.spyOn(console, 'error').mockImplementation((...parts) => void err.push(parts.join(' ')));
  return {code: await run(args), out: out.join(''), err: err.join('\n')};
}

test('help and version', async () => {
  expect(await runQuietly()).toMatchObject({code: 0, out: expect.stringContaining('Usage: tfjs-lora')});
  expect(await runQuietly('--help')).toMatchObject({code: 0, out: expect.stringContaining('pretrain')});
  expect(await runQuietly('--version')).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
  });
  for (const args of [['help'], ['-h'], ['--help']]) {
    expect(await runQuietly(...args)).toMatchObject({code: 0, out: expect.stringContaining('generate')});
  }
  expect((await runQuietly('-v')).out).toBe((await runQuietly('--version')).out);
  for (const command of ['finetune', 'adapt', 'generate', 'pretrain']) {
    const {code, out} = await runQuietly('help', command);
    expect(code).toBe(0);
    expect(out).toMatch(/Examples?:/);
    expect(Math.max(...out.split('\n').map(line => line.length))).toBeLessThanOrEqual(80);
    expect(out).toBe((await runQuietly(command, '-h')).out);
  }
  expect(await runQuietly('pretrain', '--help')).toMatchObject({
    code: 0,
    out: expect.stringContaining('--steps'),
  });
});

test.each([
  [['nonsense'], 'unknown command nonsense'],
  [['toString'], 'unknown command toString'],
  [['pretrain', '--steps', 'many'], '--steps takes a whole number of at least 1, got "many"'],
  [['pretrain', '--steps', '0'], '--steps takes a whole number of at least 1, got "0"'],
  [['--colour'], 'unknown option --colour'],
  [['pretrain', '--colour'], 'unknown option --colour: there is --steps'],
  [['pretrain', '--backend', 'abacus'], 'unknown backend "abacus"'],
  [['pretrain', '--out', 'examples/byte-lm'], 'examples/byte-lm holds a model already: --force'],
  [['adapt', '--rank', '-1'], '--rank takes a whole number of at least 1, got "-1"'],
  [['adapt', '--rank=-1'], '--rank takes a whole number of at least 1, got "-1"'],
  [['adapt', '--rank', '0x4'], '--rank takes a whole number of at least 1, got "0x4"'],
  [['adapt', '--rank', ''], '--rank takes a whole number of at least 1, got ""'],
  [['adapt', '--rank'], '--rank needs a value'],
  [['adapt', '--rank', '2', '--rank', '3'], '--rank is given twice'],
  [['adapt', '--lr', '-0.1'], '--lr takes a number above 0'],
  [['adapt', '--lr', '1,5'], 'got "1,5" (such as 0.005 or 5e-3)'],
  [['adapt', '--targets', ''], '--targets must not be empty, got ""'],
  [['adapt', '--out', ''], '--out must not be empty'],
  [['adapt', '--backend', ''], 'unknown backend ""'],
  [['adapt', '-x'], 'unknown option -x'],
  [['generate', '--adapter', 'no/such'], 'no such adapter: no/such'],
  [['generate', '--adapter', 'package.json'], 'cannot use package.json: not a readable safetensors file'],
  [['generate', '--temperature', '-1'], '--temperature takes a number of at least 0'],
  [['adapt', '--rank', '0'], '--rank takes a whole number of at least 1, got "0"'],
  [['adapt', '--alpha', '0'], '--alpha takes a number above 0, got "0"'],
  [['adapt', '--lr', 'fast'], '--lr takes a number above 0, got "fast"'],
  [['adapt', '--targets', '('], '--targets takes a regular expression'],
  [['adapt', '--inner', 'newton'], 'unknown optimizer "newton"'],
  [['adapt', '--text', 'no-such-file.txt'], 'no such text file: no-such-file.txt'],
  [['finetune', 'one'], 'finetune takes a model and data, and then options; it was given one'],
  [['finetune', 'a', 'b', '--method', 'lore'], '--method: unknown method "lore", perhaps lora'],
  [['finetune', 'a', 'b', '--epochs', '2', '--steps', '2'], '--epochs goes without --steps'],
  [['finetune', 'a', 'b', '--method', 'full', '--rank', '2'], '--rank means nothing to --method full'],
  [['adapt', 'extra'], 'unexpected argument "extra"'],
])('%s is one clear line and exit code 2', async (args, message) => {
  const {code, out, err} = await runQuietly(...args);
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).toMatch(/^tfjs-lora: [^\n]+$/);
  expect(err).toContain(message);
});

test('whole numbers', () => {
  expect(integerOption('--rank', '8', 1)).toBe(8);
  for (const text of ['', ' ', '1.5', '-1', '1e99', '1e2', '0x8', '+8', 'NaN']) {
    expect(() => integerOption('--rank', text, 1)).toThrow(UsageError);
  }
});

test('decimal numbers', () => {
  expect(['1', '0.25', '.5', '2.', '1e-3'].map(text => decimalOption('--lr', text))).toEqual([
    1, 0.25, 0.5, 2, 1e-3,
  ]);
  for (const text of ['', '0', '1e', '0x1', 'Infinity', '-1', '.']) {
    expect(() => decimalOption('--lr', text)).toThrow(UsageError);
  }
  expect(decimalOption('--temperature', '0', 0)).toBe(0);
});

test('a package that is not installed is named; other errors are not taken for that', () => {
  const missing = Object.assign(new Error("Cannot find package '@tensorflow/tfjs' imported from /x.js"), {
    code: 'ERR_MODULE_NOT_FOUND',
  });
  expect(mistakeOf(missing)).toBe('@tensorflow/tfjs is not installed: npm install @tensorflow/tfjs');
  missing.message = missing.message.replace('tfjs', 'tfjs-core');
  expect(mistakeOf(missing)).toBe('@tensorflow/tfjs is not installed: npm install @tensorflow/tfjs');
  expect(mistakeOf(new Error('anything'))).toBeUndefined();
});

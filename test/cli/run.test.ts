import {afterEach, expect, test, vi} from 'vitest';
import {integerOption} from '../../src/cli/options.js';
import {run} from '../../src/cli/run.js';
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
  [['pretrain', '--colour'], 'colour'],
  [['pretrain', '--backend', 'abacus'], 'unknown backend abacus'],
  [['adapt', '--rank', '0'], '--rank takes a whole number of at least 1, got "0"'],
  [['adapt', '--alpha', '0'], '--alpha takes a number above 0, got "0"'],
  [['adapt', '--lr', 'fast'], '--lr takes a number above 0, got "fast"'],
  [['adapt', '--targets', '('], '--targets takes a regular expression'],
  [['adapt', '--inner', 'newton'], 'unknown optimizer newton'],
  [['adapt', '--text', 'no-such-file.txt'], 'no such text file: no-such-file.txt'],
  [['adapt', 'extra'], 'unexpected argument extra'],
])('%s is one clear line and exit code 2', async (args, message) => {
  const {code, out, err} = await runQuietly(...args);
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).toMatch(/^tfjs-lora: [^\n]+$/);
  expect(err).toContain(message);
});

test('whole numbers', () => {
  expect(integerOption('--rank', '8', 1)).toBe(8);
  for (const text of ['', ' ', '1.5', '-1', '1e99', 'NaN']) {
    expect(() => integerOption('--rank', text, 1)).toThrow(UsageError);
  }
});

import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {afterAll, afterEach, describe, expect, test, vi} from 'vitest';

const shared = (name: string) => new URL(`../../examples/shared/${name}.mjs`, import.meta.url).href;
type Values = Record<string, string | number | boolean | undefined>;
const {readArguments, run, UsageError, usual} = (await import(shared('arguments'))) as {
  readArguments: (known: object, args: string[]) => Values;
  run: (name: string, main: () => Promise<void>) => Promise<void>;
  UsageError: new (message: string) => Error;
  usual: Record<string, object>;
};
const {findData} = (await import(shared('data'))) as {
  findData: (given: string | undefined, names: string[]) => string | undefined;
};
const {runFolder} = (await import(shared('run-folder'))) as {
  runFolder: (asked: string | undefined, name: string) => string;
};

const folder = mkdtempSync(join(tmpdir(), 'arguments-'));
const start = process.cwd();
afterAll(() => rmSync(folder, {recursive: true}));
afterEach(() => {
  process.chdir(start);
  process.exitCode = undefined;
  vi.restoreAllMocks();
});

const known = {...usual, rate: {is: 'a rate', kind: 'number', default: 0.5}};

describe('readArguments', () => {
  test('reads values, and takes defaults for the others', () => {
    const {steps, rate, out, backend, ...rest} = readArguments(known, [
      ...['--steps', '7', '--rate=1e-3', '--self-made', '--seed', '0'],
    ]);
    expect([steps, rate, out, backend]).toEqual([7, 1e-3, undefined, 'wasm']);
    expect(rest['self-made']).toBe(true);
    expect(rest['seed']).toBe(0);
    expect(readArguments(known, [])['rate']).toBe(0.5);
    expect(readArguments(known, [])['self-made']).toBe(false);
  });

  test.each([
    [['--stepps', '3'], /^unknown option --stepps: there is --data, .*--steps.*--rate, --help$/],
    [['--steps', '0'], /^--steps must be a whole number of at least 1, not "0"$/],
    [['--steps', '2.5'], /^--steps must be a whole number of at least 1, not "2.5"$/],
    [['--steps', ' '], /^--steps must be a whole number of at least 1, not " "$/],
    [['--seed=-1'], /^--seed must be a whole number of at least 0, not "-1"$/],
    [['--rate', '0'], /^--rate must be a number above 0, not "0"$/],
    [['--rate', 'fast'], /^--rate must be a number above 0, not "fast"$/],
    [['--steps'], /^--steps needs a value$/],
    [['--steps', '3', '--steps', '4'], /^--steps is given twice$/],
    [['--self-made=yes'], /^--self-made takes no value, got "yes"$/],
    [['--backend', 'gpu'], /^--backend takes wasm or cpu, not "gpu"$/],
    [['more'], /^unexpected argument "more"$/],
  ])('says what is wrong with %j', (args, message) => {
    expect(() => readArguments(known, args)).toThrow(message);
    expect(() => readArguments(known, args)).toThrow(UsageError);
  });
});

test('what the user can set right is one line and the exit code 2; all else is thrown', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => {});
  await run('name', () => Promise.reject(new UsageError('a mistake')));
  expect(error.mock.calls).toEqual([['name: a mistake']]);
  expect(process.exitCode).toBe(2);
  await expect(run('name', () => Promise.reject(new TypeError('a fault')))).rejects.toThrow(TypeError);
});

test('a folder that is named has all of the data; without one it is said where to get it', () => {
  vi.stubEnv('TFJS_LORA_DATA', undefined);
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  expect(() => findData(join(folder, 'none'), ['mnist'])).toThrow(/^there is no folder \S+none;/);
  expect(() => findData(folder, ['mnist'])).toThrow(
    / has no mnist\/ \(from https:\S+\), or not all of its files;/,
  );
  vi.stubEnv('TFJS_LORA_DATA', folder);
  expect(() => findData(undefined, ['mnist'])).toThrow(UsageError);
  expect(log).not.toHaveBeenCalled();
  vi.unstubAllEnvs();
});

test('no run is written over another', () => {
  process.chdir(folder);
  const first = runFolder(undefined, 'name');
  expect(first).toBe(join('runs', 'name'));
  expect(runFolder(undefined, 'name')).toBe(first); // still empty
  runFolder(join(first, 'model'), 'name');
  expect(runFolder(undefined, 'name')).toBe(join('runs', 'name-2'));
  expect(() => runFolder(first, 'name')).toThrow(/^--out \S+ is not empty: give another folder$/);
  expect(() => runFolder(join('/dev/null', 'x'), 'name')).toThrow(/^cannot write to --out \S+: ENOTDIR$/);
});

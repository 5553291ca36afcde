import {execFile} from 'node:child_process';
import {mkdtempSync, readdirSync, readFileSync, rmSync, statSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {afterAll, describe, expect, test} from 'vitest';
import {decodeSafetensors} from '../src/adapter/safetensors.js';

const folder = fileURLToPath(new URL('../examples', import.meta.url));

const elsewhere = mkdtempSync(join(tmpdir(), 'examples-'));
afterAll(() => rmSync(elsewhere, {recursive: true}));

/** Runs an example in a folder of its own, where it may write. */
const run = (file: string, args: string[] = [], env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, [`${folder}/${file}`, ...args], {
    cwd: elsewhere,
    env: {...process.env, ...env},
  });

const readExample = (file: string) => readFileSync(`${folder}/${file}`, 'utf8');
const examples = readdirSync(folder).filter(file => file.endsWith('.mjs'));

/** What runs without arguments, or in the small form that needs no data. */
test.each(examples.filter(file => !/doodlenet|mnist/.test(file)))(
  '%s runs',
  async file => {
    const {stdout} = await run(file, readExample(file).includes('--self-made') ? ['--self-made'] : []);
    expect(stdout).not.toBe('');
  },
  180_000,
);

describe.each(['char-rnn', 'text-classifier'])('%s', name => {
  test.each([
    [['--stepps', '3'], /^\S+: Unknown option '--stepps'.*--steps/],
    [['--rank', 'few'], /^\S+: --rank takes a whole number from 1 on, got "few"/],
    [['--data', '/nowhere'], /^\S+: \/nowhere has no \S+\/ \(from https:.*--self-made/],
  ])('says in one line what is wrong with %j', async (args, message) => {
    const failure = await run(`${name}.mjs`, args).then(
      () => undefined,
      (error: unknown) => error as {code: number; stderr: string},
    );
    expect(failure?.code).toBe(2);
    expect(failure!.stderr).toMatch(message);
    expect(failure!.stderr.trim().split('\n')).toHaveLength(1);
  });

  test('wrote an adapter, a model and a report that loads nothing', () => {
    const out = join(elsewhere, 'runs', name);
    expect(readdirSync(out)).toEqual(
      expect.arrayContaining(['adapter.safetensors', 'model', 'report.html', 'result.json']),
    );
    const page = readFileSync(join(out, 'report.html'), 'utf8');
    expect(page).toMatch(/<polyline points="[\d.]+,[\d.]+ /);
    expect(page).not.toMatch(/NaN|undefined|<script|src=|href=/);
  });
});

test('the character model learns, and its adapter holds what it learned', () => {
  const {nats} = JSON.parse(readFileSync(join(elsewhere, 'runs/char-rnn/result.json'), 'utf8')) as {
    nats: {before: {target: number}; after: {target: number}; readBack: number};
  };
  expect(nats.after.target).toBeLessThan(nats.before.target / 2);
  expect(nats.readBack).toBeCloseTo(nats.after.target, 3);
});

test('the classifier learns, and its adapter holds what it learned', () => {
  const {accuracy} = JSON.parse(
    readFileSync(join(elsewhere, 'runs/text-classifier/result.json'), 'utf8'),
  ) as {accuracy: {before: number; after: number; readBack: number}};
  expect(accuracy.after).toBeGreaterThan(accuracy.before + 0.3);
  expect(accuracy.readBack).toBe(accuracy.after);
});

describe.each(['doodlenet.mjs', 'mnist-mlp.mjs'])('%s', file => {
  test('runs without data, learns, and keeps an adapter and a model', async () => {
    const out = mkdtempSync(join(tmpdir(), 'example-'));
    try {
      const {stdout} = await run(file, ['--self-made', '--out', out]);
      const rows = [...stdout.matchAll(/^\S.*? {2}(\d+\.\d) % {2,}(\d+\.\d) %/gm)];
      expect(rows.length).toBeGreaterThan(0);
      for (const [, before, after] of rows) expect(Number(after)).toBeGreaterThan(Number(before) + 15);
      const files = readdirSync(out, {recursive: true, encoding: 'utf8'});
      expect(files).toContain('report.html');
      const find = (name: string) =>
        join(
          out,
          files.find(path => path.endsWith(name))!,
        );
      expect(decodeSafetensors(readFileSync(find('adapter.safetensors'))).tensors.size).toBeGreaterThan(4);
      const model = JSON.parse(readFileSync(find(join('model', 'model.json')), 'utf8'));
      const numbers = model.weightsManifest[0].weights.map(({shape}: {shape: number[]}) =>
        shape.reduce((product, n) => product * n, 1),
      );
      const bytes = numbers.reduce((sum: number, n: number) => sum + 4 * n, 0);
      expect(statSync(find(join('model', 'weights.bin'))).size).toBe(bytes);
    } finally {
      rmSync(out, {recursive: true});
    }
  }, 180_000);

  test.each([
    [['--stps', '3'], /^\S+: unknown option --stps: there is --data/],
    [['--steps', '0'], /^\S+: --steps must be a whole number of at least 1, not "0"\n$/],
    [['--steps'], /^\S+: --steps needs a value\n$/],
    [['--data', '/no/such/folder'], /^\S+: --data: there is no folder \/no\/such\/folder\n$/],
    [['more'], /^\S+: unexpected argument "more"\n$/],
  ])('tells what is wrong with %j in one line', async (args, line) => {
    const error = await run(file, args).then(
      () => undefined,
      (e: {code: number; stderr: string}) => e,
    );
    expect(error?.code).toBe(2);
    expect(error?.stderr).toMatch(line);
    expect(error?.stderr.split('\n').length).toBe(2);
  });
});

test('the parametrization of the example takes fewer than 40 lines', () => {
  const text = readExample('own-parametrization.mjs');
  const variant = text.slice(text.indexOf('/**'), text.indexOf('await tf.setBackend'));
  expect(variant).toMatch(/^\/\*\*[\s\S]*function waves/);
  expect(variant.split('\n').filter(line => line.trim() !== '').length).toBeLessThan(40);
});

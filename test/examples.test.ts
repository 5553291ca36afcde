import {execFile} from 'node:child_process';
import {mkdtempSync, readdirSync, readFileSync, rmSync, statSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {describe, expect, test} from 'vitest';
import {decodeSafetensors} from '../src/adapter/safetensors.js';

const folder = fileURLToPath(new URL('../examples', import.meta.url));

const start = (file: string, ...args: string[]) =>
  promisify(execFile)(process.execPath, [`${folder}/${file}`, ...args]);
const examples = readdirSync(folder).filter(file => file.endsWith('.mjs'));
/** Those that can do without data, in a smaller form. */
const selfMade = examples.filter(file => readFileSync(`${folder}/${file}`, 'utf8').includes('--self-made'));

test.each(examples.filter(file => !selfMade.includes(file)))('%s runs', async file => {
  const {stdout} = await start(file);
  expect(stdout).not.toBe('');
});

describe.each(selfMade)('%s', file => {
  test('runs without data, learns, and keeps an adapter and a model', async () => {
    const out = mkdtempSync(join(tmpdir(), 'example-'));
    try {
      const {stdout} = await start(file, '--self-made', '--out', out);
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
    const error = await start(file, ...args).then(
      () => undefined,
      (e: {code: number; stderr: string}) => e,
    );
    expect(error?.code).toBe(2);
    expect(error?.stderr).toMatch(line);
    expect(error?.stderr.split('\n').length).toBe(2);
  });
});

test('the parametrization of the example takes fewer than 40 lines', () => {
  const text = readFileSync(`${folder}/own-parametrization.mjs`, 'utf8');
  const variant = text.slice(text.indexOf('/**'), text.indexOf('await tf.setBackend'));
  expect(variant).toMatch(/^\/\*\*[\s\S]*function waves/);
  expect(variant.split('\n').filter(line => line.trim() !== '').length).toBeLessThan(40);
});

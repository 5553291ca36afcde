import {execFile} from 'node:child_process';
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';

interface Row {
  method: string;
  kernels: 'shipped' | 'fast';
  error?: string;
  cold: boolean;
  ms: {median: number; q1: number; q3: number; n: number};
  launches: number;
  peakBytes: {tensors: number; buffers: number};
  heldBytes: {tensors: number; buffers: number};
  losses: number[];
  lossDifference: number;
}
interface Run {
  size: Record<string, number | string>;
  candidates: Row[];
}
interface Part {
  versions: Record<string, string>;
  runs: Run[];
  axes: Record<string, Run[]>;
}

const folder = mkdtempSync(join(tmpdir(), 'bench-'));
const [results, docs] = [join(folder, 'results'), join(folder, 'docs')];
const read = (part: string) => JSON.parse(readFileSync(join(results, `${part}.json`), 'utf8')) as Part;
const isLora = ({method}: Row) => ['layers', 'dense', 'tapped'].includes(method);

beforeAll(async () => {
  const bench = fileURLToPath(new URL('../bench/run.mjs', import.meta.url));
  await promisify(execFile)(process.execPath, [bench, '--quick', '--out', results, '--docs', docs]);
}, 120_000);
afterAll(() => rmSync(folder, {recursive: true}));

describe('the benchmark', () => {
  test('measures every candidate at every size', () => {
    const runs = [...read('steps').runs, ...Object.values(read('growth').axes).flat()];
    expect(runs).toHaveLength(2 + 12);
    for (const {candidates} of runs) {
      const names = candidates.map(({method, kernels}) => `${method} ${kernels}`);
      expect(names).toEqual(
        expect.arrayContaining([
          'adam shipped',
          'adam fast',
          'layers fast',
          'tapped shipped',
          'floor shipped',
        ]),
      );
      for (const row of candidates) {
        expect(row.error).toBeUndefined();
        expect(row.ms.q1).toBeLessThanOrEqual(row.ms.median);
        expect(row.ms.median).toBeLessThanOrEqual(row.ms.q3);
        expect(row.ms.n).toBeGreaterThan(0);
        expect(row.launches).toBeGreaterThan(0);
        expect(row.peakBytes.tensors).toBeGreaterThanOrEqual(row.peakBytes.buffers);
        expect(row.peakBytes.buffers).toBeGreaterThan(row.heldBytes.buffers);
      }
    }
    expect(read('steps').versions['tfjs']).toMatch(/^4\./);
  });

  test('all LoRA candidates have the same losses, and the floor the first of them', () => {
    const runs = [
      ...['steps', 'models'].flatMap(part => read(part).runs),
      ...Object.values(read('growth').axes).flat(),
    ];
    for (const {candidates} of runs) {
      for (const row of candidates.filter(row => !row.error)) {
        expect(row.lossDifference ?? 0, `${row.method} ${row.kernels}`).toBeLessThan(1e-4);
        if (isLora(row)) expect(row.losses.at(-1)).toBeLessThan(row.losses[0]!);
      }
    }
  });

  test('tapped gradients train both models on the kernels as shipped', () => {
    const {runs} = read('models');
    expect(runs.map(({size}) => size['name'])).toEqual(['transformer', 'conv']);
    for (const {candidates} of runs) {
      const row = candidates.find(({method, kernels}) => method === 'tapped' && kernels === 'shipped')!;
      expect(row.error).toBeUndefined();
    }
  });

  test('the page shows plots that exist and targets with what was measured', () => {
    const page = readFileSync(join(docs, 'performance.md'), 'utf8');
    const plots = [...page.matchAll(/!\[.+?\]\((.+?)\)/g)].map(match => match[1]!);
    expect(plots).toHaveLength(readdirSync(join(docs, 'performance')).length);
    for (const plot of plots) {
      expect(existsSync(join(dirname(join(docs, 'performance.md')), plot)), plot).toBe(true);
      const svg = readFileSync(join(docs, plot), 'utf8');
      expect(svg).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
    expect(page).not.toMatch(/NaN|undefined/);
    expect(page).toContain('≥ 20');
  });
});

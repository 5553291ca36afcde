import {mkdirSync, writeFileSync} from 'node:fs';
import {relative} from 'node:path';
import {fileURLToPath} from 'node:url';
import {afterAll, expect} from 'vitest';

/** What one test file measured: the worst residual of each law and oracle of each method. */
const measured = new Map<string, {residual: number; tolerance: number; what?: string}>();

/** Takes note of a residual for the table of residuals. `check` is the name of a law, or the number of an oracle. */
export function record(
  method: string,
  check: string,
  residual: number,
  tolerance: number,
  what?: string,
): void {
  const key = `${method}\t${check}`;
  const worst = measured.get(key);
  // A residual that is no number is the worst there is.
  if (worst && !(residual / tolerance > worst.residual / worst.tolerance || Number.isNaN(residual))) return;
  measured.set(key, {residual, tolerance, ...(what !== undefined && {what})});
}

/**
 * An oracle: an equality or a bound that the mathematics of a method implies, by its number in the list of oracles (`O37`)
 * or a name of its own. Fails when the residual is above the tolerance, and puts it into the table of residuals.
 *
 * @param what One line for the table, e.g. `W after a step of SGD = W0 - eta G`.
 */
export function expectOracle(
  method: string,
  oracle: string,
  what: string,
  residual: number,
  tolerance: number,
): void {
  record(method, oracle, residual, tolerance, what);
  expect(residual, `${method}, ${oracle}: ${what}`).toBeLessThanOrEqual(tolerance);
}

afterAll(() => {
  if (measured.size === 0) return;
  const tests = fileURLToPath(new URL('..', import.meta.url));
  const folder = fileURLToPath(new URL('../../temp/residuals/', import.meta.url));
  mkdirSync(folder, {recursive: true});
  const file = relative(tests, expect.getState().testPath ?? 'unknown')
    .replace(/[\\/]/g, '-')
    .replace('.test.ts', '');
  const entries = [...measured].map(([key, value]) => {
    const [method, check] = key.split('\t');
    return {method, check, ...value};
  });
  writeFileSync(`${folder}${file}.json`, JSON.stringify(entries, null, 1) + '\n');
});

import * as tf from '@tensorflow/tfjs';
import {afterEach, expect, test, vi} from 'vitest';
import {hasDawn} from '../../src/cli/backend.js';
import {doctor} from '../../src/cli/doctor.js';

afterEach(() => {
  vi.restoreAllMocks();
});

test('every backend is listed with what became of it, and one is taken', async () => {
  const lines: string[] = [];
  vi.spyOn(console, 'log').mockImplementation(line => void lines.push(String(line)));
  await doctor([]);
  const text = lines.join('\n');
  for (const name of ['tensorflow-gpu', 'tensorflow', 'webgpu', 'wasm', 'cpu'])
    expect(text).toMatch(new RegExp(`^${name} `, 'm'));
  expect(text).toMatch(/^(tensorflow|tensorflow-gpu|webgpu|wasm) .* taken$/m);
  expect(text).toContain(`Node      ${process.version}`);
  expect(text).toMatch(/wasm holds 4 GiB/);
  expect(/^note  a program on webgpu in Node should end by itself: process\.exit\(\)/m.test(text)).toBe(
    hasDawn(),
  );
  expect(text).toContain(`@tensorflow/tfjs-core ${tf.version_core}`);
});

test('as JSON, with a time for what runs', async () => {
  const written: string[] = [];
  vi.spyOn(process.stdout, 'write').mockImplementation(text => Boolean(written.push(String(text))));
  await doctor(['--json']);
  vi.restoreAllMocks();
  const report = JSON.parse(written.join('')) as {
    taken: string;
    backends: {name: string; attempt: {state: string}; milliseconds: number | null}[];
  };
  for (const {attempt, milliseconds} of report.backends)
    expect(milliseconds !== null).toBe(attempt.state === 'works');
  expect(report.backends.find(({name}) => name === report.taken)!.attempt.state).toBe('works');
  await expect(doctor(['--jsom'])).rejects.toThrow(/unknown option --jsom/);
});

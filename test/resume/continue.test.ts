import {execFile} from 'node:child_process';
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {build} from 'esbuild';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {saveCheckpoint} from '../../src/resume/index.js';
import {cases} from './cases.js';
import {digestOfWeights} from './digest.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The contract of a checkpoint: n steps are k steps, a save, a load in a new process and n - k steps, bit for bit. For
 * every parametrization and every inner optimizer, and wherever state is in between.
 */
describe.each(['cpu', 'wasm'])(
  'n steps = k steps, saved, loaded by another process, n - k steps, on %s',
  backend => {
    const folder = mkdtempSync(join(tmpdir(), 'tfjs-lora-continue-'));
    const wanted: Record<string, {digest: string; atSave: string; step: number}> = {};
    let got: Record<string, {digest?: string; step?: number; data?: unknown; error?: string}> = {};

    beforeAll(async () => {
      await tf.setBackend(backend);
      for (const [i, [name, {make, before = 4, all = 7}]] of Object.entries(cases).entries()) {
        const whole = make();
        for (let at = 0; at < all; at++) await whole.step(at);
        const digest = digestOfWeights(whole.weights());
        whole.optimizer.dispose();
        tf.disposeVariables();

        const first = make();
        for (let at = 0; at < before; at++) await first.step(at);
        const {optimizer, model} = first;
        await saveCheckpoint(optimizer, `file://${folder}/${i}`, {model, data: {next: before}});
        wanted[name] = {digest, atSave: digestOfWeights(first.weights()), step: optimizer.iterations};
        optimizer.dispose();
        tf.disposeVariables();
      }
      const script = join(root, `temp/continue-${backend}.mjs`);
      await build({
        entryPoints: [join(root, 'test/resume/continue.ts')],
        outfile: script,
        bundle: true,
        format: 'esm',
        platform: 'node',
        packages: 'external',
        logLevel: 'error',
      });
      const {stdout} = await promisify(execFile)(process.execPath, [script, backend, folder], {
        maxBuffer: 1e8,
      });
      got = JSON.parse(stdout.slice(stdout.lastIndexOf('\n{') + 1)) as typeof got;
    }, 300_000);
    afterAll(() => rmSync(folder, {recursive: true}));

    test.each(Object.entries(cases))('%s', (name, {before = 4}) => {
      expect(got[name]).toEqual({
        digest: wanted[name]!.digest,
        step: wanted[name]!.step,
        data: {next: before},
      });
      // Something was left to do.
      expect(wanted[name]!.digest).not.toBe(wanted[name]!.atSave);
    });
  },
);

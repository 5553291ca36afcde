import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {answerOf, type Candidate, candidates, chooseBackend} from '../../src/cli/backend.js';

test('the fastest installed backend is taken', async () => {
  const {name, note} = await chooseBackend();
  expect(['tensorflow-gpu', 'tensorflow', 'webgpu', 'wasm']).toContain(name);
  expect(note).toContain(`${name}: the fastest`);
  if (name === 'wasm') expect(note).toMatch(/tensorflow-gpu, tensorflow not installed/);
});

test('a backend can be asked for', async () => {
  expect(await chooseBackend('cpu')).toMatchObject({name: 'cpu', version: tf.version.tfjs});
  expect((await chooseBackend('cpu')).advice).toBe('the cpu backend is slow; faster: --backend wasm');
  expect(tf.getBackend()).toBe('cpu');
  expect(await chooseBackend('wasm')).toMatchObject({name: 'wasm', version: '4.22.0', advice: undefined});
  expect(tf.getBackend()).toBe('wasm');
});

test('an unknown or missing backend is an error that lists the others', async () => {
  await expect(chooseBackend('abacus')).rejects.toThrow(/unknown backend "abacus".*wasm, cpu/);
  const native = await chooseBackend('tensorflow-gpu').catch((error: Error) => error);
  if (native instanceof Error) expect(native.message).toMatch(/not installed; there is .*wasm, cpu/);
});

test('what is behind the one that is taken is not looked at', async () => {
  expect(candidates.map(({name}) => name)).toEqual(['tensorflow-gpu', 'tensorflow', 'webgpu', 'wasm', 'cpu']);
  const looks: string[] = [];
  // Each looks before it starts, as webgpu does, for which that is another process.
  const looking = (name: string, isThere: boolean): Candidate => ({
    ...{name, registered: 'cpu', version: () => '1'},
    prepare: async () => {
      looks.push(name);
      return isThere ? undefined : {state: 'does not start', why: 'no card'};
    },
  });
  const chosen = (...list: Candidate[]) => chooseBackend(undefined, list).then(({name}) => name);
  expect(await chosen(looking('tensorflow', true), looking('webgpu', true), looking('abacus', true))).toBe(
    'tensorflow',
  );
  expect(looks.splice(0)).toEqual(['tensorflow']);
  expect(await chosen(looking('tensorflow', false), looking('webgpu', false), looking('abacus', true))).toBe(
    'abacus',
  );
  expect(looks.splice(0)).toEqual(['tensorflow', 'webgpu', 'abacus']);
  const asked = await chooseBackend('abacus', [looking('webgpu', true), looking('abacus', true)]);
  expect([asked.name, looks]).toEqual(['abacus', ['abacus']]);
});

test('a process that has answered may crash, fail or hang', async () => {
  const prints = `process.stdout.write('{"name": "a card", "isSoftware": false}');`;
  const card = {name: 'a card', isSoftware: false};
  const kill = (signal: string) => `process.kill(process.pid, '${signal}');`;
  expect(await answerOf(prints)).toEqual(card);
  expect(await answerOf(prints + kill('SIGSEGV'))).toEqual(card);
  expect(await answerOf(`${prints} process.exitCode = 7;`)).toEqual(card);
  expect(await answerOf(`${prints} setInterval(() => {}, 1e6);`, 2000)).toEqual(card);
  expect(await answerOf(`process.stdout.write('null');`)).toBeNull();
  expect(await answerOf(kill('SIGSEGV') + prints)).toBeUndefined();
  expect(await answerOf(`process.stdout.write('{"name": "a c'); ${kill('SIGSEGV')}`)).toBeUndefined();
  expect(await answerOf(`throw new Error('x')`)).toBeUndefined();
});

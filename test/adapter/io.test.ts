import {mkdtempSync, readdirSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, describe, expect, test, vi} from 'vitest';
import {ioHandler} from '../../src/adapter/io.js';

const folder = mkdtempSync(join(tmpdir(), 'tfjs-lora-io-'));
afterAll(() => rmSync(folder, {recursive: true}));

const artifacts: tf.io.ModelArtifacts = {
  modelTopology: {a: 1},
  weightSpecs: [{name: 'a', shape: [1], dtype: 'float32'}],
  weightData: new Float32Array([3]).buffer,
};

/** Schemes of this test: tfjs keeps routers for good. */
const stored = new Map<string, tf.io.ModelArtifacts>();
const handlerFor = (url: string): tf.io.IOHandler => ({
  async save(given) {
    stored.set(url, given);
    return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
  },
  load: async () => stored.get(url)!,
});
const router = (url: string | string[]) =>
  (String(url).startsWith('test-one://') || String(url).startsWith('test-two://')
    ? handlerFor(String(url))
    : null) as tf.io.IOHandler;
const second = (url: string | string[]) =>
  (String(url).startsWith('test-two://') || String(url).startsWith('file://')
    ? handlerFor('other')
    : null) as tf.io.IOHandler;
for (const each of [router, second]) {
  tf.io.registerSaveRouter(each);
  tf.io.registerLoadRouter(each);
}

describe('ioHandler', () => {
  test('a handler is passed through, and must do what it is for', () => {
    const handler = tf.io.withSaveHandler(async () => ({modelArtifactsInfo: null as never}));
    expect(ioHandler(handler, 'save')).toBe(handler);
    expect(() => ioHandler(handler, 'load')).toThrow(/with load\(\), not one without load\(\)/);
    expect(() => ioHandler(undefined as never, 'save')).toThrow(/not undefined/);
    expect(() => ioHandler(7 as never, 'save')).toThrow(/not 7/);
    const memory = tf.io.fromMemory(artifacts);
    expect(ioHandler(memory as tf.io.IOHandler, 'load')).toBe(memory);
  });

  test('what a program registered with tfjs works', async () => {
    await ioHandler('test-one://x', 'save').save!(artifacts);
    expect(await ioHandler('test-one://x', 'load').load!()).toBe(artifacts);
  });

  test('file:// is ours under Node, even where another is registered', async () => {
    await ioHandler(`file://${folder}/a`, 'save').save!(artifacts);
    expect(readdirSync(join(folder, 'a'))).toEqual(['model.json', expect.stringMatching(/^weights-.*bin$/)]);
    expect((await ioHandler(`file://${folder}/a`, 'load').load!()).modelTopology).toEqual({a: 1});
    expect(stored.has('other')).toBe(false);
  });

  test('two that want it are one too many', () => {
    expect(() => ioHandler('test-two://x', 'save')).toThrow(
      /2 handlers want to save 'test-two:\/\/x'.*pass the tf\.io/,
    );
  });

  test('an unknown one names those known here, and the fix', () => {
    expect(() => ioHandler('indexeddb://x', 'save')).toThrow(
      /nothing here can save indexeddb:\/\/\. Known here: file:\/\/, http:\/\/, https:\/\/.*registerSaveRouter/,
    );
    expect(() => ioHandler('weights', 'load')).toThrow(
      /cannot load 'weights': an address begins with a scheme/,
    );
  });

  test('outside Node file:// is left to tfjs', async () => {
    vi.stubGlobal('process', undefined);
    const found = ioHandler('file://a', 'save');
    vi.unstubAllGlobals();
    await found.save!(artifacts);
    expect(stored.has('other')).toBe(true);
  });
});

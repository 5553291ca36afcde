import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {toArtifacts} from '../../src/adapter/artifacts.js';
import {
  encodeAdapter,
  loadAdapter,
  loadCheckpoint,
  nodeFiles,
  readAdapter,
  saveCheckpoint,
} from '../../src/adapter/index.js';
import {dora, loraAdam} from '../../src/index.js';
import {numTensors} from '../helpers.js';
import {learned, mlp, numbers, restore} from './models.js';
import {adapterWith, weightOf, wholeWeight} from './situations.js';

beforeAll(() => tf.setBackend('cpu'));
const folder = mkdtempSync(join(tmpdir(), 'tfjs-lora-stream-'));
afterAll(() => rmSync(folder, {recursive: true}));

/** A handler that has its numbers only as a stream, in pieces of this many bytes. */
class Streaming implements tf.io.IOHandler {
  pulled = 0;
  cancelled = false;

  constructor(
    private readonly artifacts: tf.io.ModelArtifacts,
    private readonly size: number,
    /** What comes in place of the bytes from here on. */
    private readonly end?: (controller: ReadableStreamDefaultController) => void,
    private readonly pack: (bytes: Uint8Array) => unknown = bytes => bytes,
  ) {}

  async load(): Promise<tf.io.ModelArtifacts> {
    const {weightData, ...rest} = this.artifacts;
    const bytes = new Uint8Array(weightData as ArrayBuffer);
    let at = 0;
    const getWeightStream = () =>
      new ReadableStream(
        {
          pull: controller => {
            this.pulled++;
            if (at < bytes.length) {
              controller.enqueue(this.pack(bytes.slice(at, (at += this.size))));
            } else if (this.end) this.end(controller);
            else controller.close();
          },
          cancel: () => void (this.cancelled = true),
        },
        {highWaterMark: 0},
      );
    return {...rest, getWeightStream: getWeightStream as never};
  }
}

const adapter = adapterWith(
  weightOf(dora({rank: 2}), [6, 4], 'a/kernel'),
  wholeWeight('a/bias', [1, 2, 3, 4]),
);

describe('an adapter that comes as a stream', () => {
  test.each([1, 3, 4, 1000])('in pieces of %s bytes is the adapter', async size => {
    for (const pack of [(bytes: Uint8Array) => bytes, (bytes: Uint8Array) => bytes.buffer]) {
      const read = await readAdapter(new Streaming(toArtifacts(adapter), size, undefined, pack));
      expect(encodeAdapter(read)).toEqual(encodeAdapter(adapter));
    }
  });

  test('is merged', async () => {
    const model = mlp();
    const {adapter: own, base, trained} = await learned(model, undefined, {keepBase: true});
    await loadAdapter(model, new Streaming(toArtifacts(own), 7));
    expect(numbers(model)).toEqual(trained);
    restore(model, base);
  });

  test('that goes on for ever is ended where its tensors end', async () => {
    const endless = new Streaming(toArtifacts(adapter), 16, controller =>
      controller.enqueue(new Uint8Array(1 << 20)),
    );
    const {byteLength} = toArtifacts(adapter).weightData as ArrayBuffer;
    await expect(readAdapter(endless)).rejects.toThrow(
      `not a readable adapter: its tensors take ${byteLength} bytes, and the stream of weights has more`,
    );
    expect(endless.cancelled).toBe(true);
    expect(endless.pulled).toBe(Math.ceil(byteLength / 16) + 1);
  });

  test('that cannot be ended, and one that is none, are told at once', async () => {
    const artifacts = toArtifacts(adapter);
    const stubborn = new ReadableStream({
      pull: controller => controller.enqueue(new Uint8Array(1 << 20)),
      cancel: () => new Promise(() => {}),
    });
    for (const [stream, message] of [
      [stubborn, 'and the stream of weights has more'],
      [null, 'its getWeightStream gives no ReadableStream'],
    ] as const) {
      const {weightData: _, ...rest} = artifacts;
      const load = async () => ({...rest, getWeightStream: () => stream as ReadableStream<ArrayBuffer>});
      await expect(readAdapter({load} as tf.io.IOHandler)).rejects.toThrow(message);
    }
  });

  test.each<[string, (artifacts: tf.io.ModelArtifacts) => Streaming, RegExp]>([
    [
      'that is cut off',
      artifacts =>
        new Streaming({...artifacts, weightData: (artifacts.weightData as ArrayBuffer).slice(4)}, 16),
      /there are \d+: it is cut off or damaged/,
    ],
    [
      'that breaks',
      artifacts =>
        new Streaming(artifacts, 16, controller => controller.error(new Error('the line is dead'))),
      /the line is dead/,
    ],
    ['of text', artifacts => new Streaming(artifacts, 16, undefined, String), /no ArrayBuffer/],
    [
      'whose specs claim what no machine holds',
      artifacts =>
        new Streaming({...artifacts, weightSpecs: [{name: 'x', shape: [2 ** 40], dtype: 'float32'}]}, 16),
      /take 4398046511104 bytes, and there are \d+/,
    ],
    [
      'without specs',
      artifacts => new Streaming({...artifacts, weightSpecs: undefined as never}, 16),
      /there is no list of tensors/,
    ],
  ])('%s is an error', async (_, make, message) => {
    const model = mlp();
    const [before, tensors] = [numbers(model), numTensors()];
    await expect(loadAdapter(model, make(toArtifacts(adapter)))).rejects.toThrow(message);
    expect(numbers(model)).toEqual(before);
    expect(numTensors()).toBe(tensors);
  });
});

test('a checkpoint that comes as a stream, and what nodeFiles is given as one', async () => {
  const run = () => {
    const w = tf.variable(tf.ones([4, 3]), true, 'w');
    return {w, optimizer: loraAdam(0.1, {rank: 1, targets: () => true})};
  };
  const {w, optimizer} = run();
  optimizer.minimize(() => tf.sum(tf.square(w)) as tf.Scalar, false, [w]);
  let saved!: tf.io.ModelArtifacts;
  const keep = tf.io.withSaveHandler(async artifacts => {
    saved = artifacts;
    return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
  });
  await saveCheckpoint(optimizer, keep, {model: {w}});
  await nodeFiles(folder).save!(await new Streaming(saved, 5).load());
  for (const source of [new Streaming(saved, 5), `file://${folder}`]) {
    tf.disposeVariables();
    const again = run();
    await loadCheckpoint(again.optimizer, source, {model: {w: again.w}});
    expect(again.optimizer.iterations).toBe(1);
    expect(Array.from(again.w.dataSync())).not.toEqual(Array(12).fill(1));
  }
});

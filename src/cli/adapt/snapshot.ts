import type * as tf from '@tensorflow/tfjs';
import type {Corpus} from '../byte-lm/corpus.js';
import {bitsPerByte} from '../byte-lm/evaluate.js';
import {generate} from '../byte-lm/model.js';

/** How the model does at one time. */
export interface Snapshot {
  /** Bits per byte of the held-out texts. */
  target: number;
  base: number | null;
  /** How it continues the prompt. */
  sample: string;
}

export interface SnapshotOptions {
  prompt: string;
  seed: number;
  /** Ends it by an AbortError when it is aborted. */
  signal?: AbortSignal;
}

/** Windows of each text in an evaluation. */
const windows = 128;

export async function takeSnapshot(
  model: tf.LayersModel,
  target: Corpus,
  base: Corpus | undefined,
  {prompt, ...options}: SnapshotOptions,
): Promise<Snapshot> {
  const bits = (text: Uint8Array) => bitsPerByte(model, text, {windows, ...options});
  return {
    target: await bits(target.heldOut),
    base: base ? await bits(base.heldOut) : null,
    sample: (await generate(model, prompt, {bytes: 160, ...options})).slice(prompt.length),
  };
}

/** Some 48 bytes from the middle of a text, from the start of a line. */
export function promptFrom(text: Uint8Array): string {
  const start = text.indexOf(10, text.length / 2) + 1;
  return new TextDecoder().decode(text.subarray(start, start + 48)).replaceAll('\ufffd', '');
}

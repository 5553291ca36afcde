/** What every run stands on: the texts, what of them is measured, and the backend. */
import * as tf from '@tensorflow/tfjs';
import {type Backend, chooseBackend} from '../backend.js';
import {
  type Corpus,
  declarationsCorpus,
  englishCorpus,
  leastEnglishBytes,
  textCorpus,
} from '../byte-lm/corpus.js';
import {version} from '../package.js';
import {count} from '../table.js';
import {promptFrom, type Snapshot, takeSnapshot} from './snapshot.js';

export class Ground {
  /** English, to measure what is forgotten; undefined where too little of it is installed. */
  private readonly base: Corpus | undefined;
  /** What the model is to continue before and after. */
  readonly prompt: string;

  private constructor(
    readonly target: Corpus,
    private readonly english: Corpus,
    readonly backend: Backend,
    private readonly seed: number,
  ) {
    this.base = english.heldOut.length < leastEnglishBytes ? undefined : english;
    this.prompt = promptFrom(target.heldOut);
  }

  /** Reads the texts and starts the backend. */
  static async of(options: {text: string[]; backend: string | undefined; seed: number}): Promise<Ground> {
    const target = options.text.length > 0 ? textCorpus(options.text) : declarationsCorpus();
    const english = englishCorpus();
    return new Ground(target, english, await chooseBackend(options.backend), options.seed);
  }

  measure(model: tf.LayersModel, signal?: AbortSignal): Promise<Snapshot> {
    const options = {prompt: this.prompt, seed: this.seed, ...(signal && {signal})};
    return takeSnapshot(model, this.target, this.base, options);
  }

  /** Undefined after a signal. */
  async measureUnless(signal: AbortSignal, model: tf.LayersModel): Promise<Snapshot | undefined> {
    if (signal.aborted) return undefined;
    try {
      return await this.measure(model, signal);
    } catch (error) {
      if (signal.aborted) return undefined;
      throw error;
    }
  }

  /** The first lines of a run; `own` are about what is trained. */
  introduce(all: number, own: readonly (readonly [name: string, value: string])[]): void {
    const {target, english, backend} = this;
    const lines = [
      ['Model', `a byte-level transformer of English, ${count(all)} weights (examples/byte-lm)`],
      ['Text', `${target.name}: ${count(target.train.length)} bytes to learn`],
      ['Held out', `${count(target.heldOut.length)} bytes: ${target.heldOutIs}`],
      ...own,
      ['Backend', backend.note],
    ];
    if (backend.advice !== undefined) lines.push(['Note', backend.advice]);
    if (!this.base) {
      const found = `only ${count(english.heldOut.length)} bytes of it in the READMEs of installed packages`;
      lines.push(['Note', `what the model forgets of English is not measured: ${found}`]);
    }
    for (const [name, value] of lines) console.log(`${name!.padEnd(9)} ${value}`);
  }

  /** As they go into result.json. */
  versions(): Record<'tfjs-lora' | 'tfjs' | 'node' | 'backend', string> {
    return {
      'tfjs-lora': version(),
      tfjs: tf.version.tfjs,
      node: process.versions.node,
      backend: this.backend.version,
    };
  }
}

import {basename, extname} from 'node:path';
import {readArguments} from '../arguments.js';
import {defaultRate, innerNames} from '../inner.js';
import {decimalOption, integerOption, textOption} from '../options.js';
import {UsageError} from '../usage-error.js';

export const adaptHelp = `Usage: tfjs-lora adapt [options]

Adapts a small byte-level language model of English to another text through
LoRA, and shows what it learned, what it forgot and what that cost. Writes the
adapter, report.html and result.json into a folder of their own.

  --text FILE...   texts to learn (the typescript package's declarations)
  --rank N         rank of the adapters (4)
  --alpha X        scale: a weight moves by alpha/rank A B (twice the rank)
  --lr X           peak learning rate (depends on --inner; ${defaultRate('adam')} for adam)
  --steps N        training steps of 1024 bytes (150)
  --targets REGEX  names of the weights to adapt (every matrix)
  --inner NAME     ${innerNames.join(', ')}
                   (adam)
  --backend NAME   tensorflow-gpu, tensorflow, wasm, cpu (the first that works)
  --seed N         seed of the adapters, the batches and the samples (0)
  --out FOLDER     where the results are written; must not hold a run yet
                   (runs/TEXT, or runs/TEXT-2 and so on if that is taken)

Ctrl-C ends the training early and keeps the adapter of the last step.

Examples:
  tfjs-lora adapt --steps 20
  tfjs-lora adapt --text notes.txt more.md --rank 8 --out runs/notes
  tfjs-lora adapt --targets "attention/(query|value)" --inner sgd
`;

/** What the command line asks for, checked and with its defaults. */
export interface Options {
  text: string[];
  rank: number;
  alpha: number;
  lr: number;
  steps: number;
  targets: RegExp | undefined;
  inner: string;
  backend: string | undefined;
  seed: number;
  /** Where the run is written, if it was said. */
  out: string | undefined;
}

/**
 * The options of a command line; undefined when it asks for help.
 * @throws UsageError for a value that does not fit
 */
export function readOptions(args: string[]): Options | undefined {
  const given = readArguments(args, {
    ...{text: 'values', rank: 'value', alpha: 'value', lr: 'value', steps: 'value', targets: 'value'},
    ...{inner: 'value', backend: 'value', seed: 'value', out: 'value', help: 'flag'},
  } as const);
  if (given.help) return undefined;
  const {inner = 'adam', backend, alpha, lr, targets, out} = given;
  const rank = integerOption('--rank', given.rank ?? '4', 1);
  const rate = defaultRate(inner);
  return {
    text: (given.text ?? []).map(path => textOption('--text', path)),
    rank,
    alpha: alpha === undefined ? 2 * rank : decimalOption('--alpha', alpha),
    lr: lr === undefined ? rate : decimalOption('--lr', lr),
    steps: integerOption('--steps', given.steps ?? '150', 1),
    targets: targets === undefined ? undefined : regExpOption('--targets', targets),
    inner,
    backend,
    seed: integerOption('--seed', given.seed ?? '0', 0),
    out: out === undefined ? undefined : textOption('--out', out),
  };
}

function regExpOption(name: string, text: string): RegExp {
  try {
    return new RegExp(textOption(name, text));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${name} takes a regular expression: ${(error as Error).message}`);
  }
}

/** What a run on these files is called. */
export function textName(paths: string[]): string {
  const [first] = paths;
  if (first === undefined) return 'typescript';
  return basename(first, extname(first)).replace(/[^\w.-]+/g, '-') || 'text';
}

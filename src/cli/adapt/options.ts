import {basename, extname, join} from 'node:path';
import {parseArgs} from 'node:util';
import {defaultRate, innerNames} from '../inner.js';
import {integerOption, positiveOption} from '../options.js';
import {UsageError} from '../usage-error.js';

export const adaptHelp = `Usage: tfjs-lora adapt [options]

Adapts a small byte-level language model of English to another text through LoRA, and shows what it
learned, what it forgot and what that cost. Writes runs/<name>/: the adapter, report.html, result.json.

  --text FILE...   texts to learn (the typescript package's declarations)
  --rank N         rank of the adapters (4)
  --alpha X        scale: a weight moves by alpha/rank A B (twice the rank)
  --lr X           peak learning rate (depends on --inner; ${defaultRate('adam')} for adam)
  --steps N        training steps of 1024 bytes (150)
  --targets REGEX  names of the weights to adapt, e.g. "attention/(query|value)" (every matrix)
  --inner NAME     ${innerNames.join(', ')} (adam)
  --backend NAME   tensorflow-gpu, tensorflow, wasm or cpu (the fastest that is installed)
  --seed N         seed of the adapters, the batches and the samples (0)
  --out FOLDER     where the results are written (runs/<date>-<text>)

Ctrl-C ends the training early and keeps the adapter of the last step.
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
  out: string;
}

/**
 * The options of a command line; undefined when it asks for help.
 * @throws UsageError for a value that does not fit
 */
export function readOptions(args: string[]): Options | undefined {
  const {values, positionals} = parseArgs({
    args,
    allowPositionals: true,
    options: {
      text: {type: 'string', multiple: true, default: []},
      rank: {type: 'string', default: '4'},
      alpha: {type: 'string'},
      lr: {type: 'string'},
      steps: {type: 'string', default: '150'},
      targets: {type: 'string'},
      inner: {type: 'string', default: 'adam'},
      backend: {type: 'string'},
      seed: {type: 'string', default: '0'},
      out: {type: 'string'},
      help: {type: 'boolean', short: 'h'},
    },
  });
  if (values.help) return undefined;
  if (positionals.length > 0 && values.text.length === 0) {
    throw new UsageError(`unexpected argument ${positionals[0]}: texts are given with --text`);
  }
  const text = [...values.text, ...positionals];
  const {inner} = values;
  const rank = integerOption('--rank', values.rank, 1);
  const rate = defaultRate(inner);
  return {
    text,
    rank,
    alpha: values.alpha === undefined ? 2 * rank : positiveOption('--alpha', values.alpha),
    lr: values.lr === undefined ? rate : positiveOption('--lr', values.lr),
    steps: integerOption('--steps', values.steps, 1),
    targets: values.targets === undefined ? undefined : regExpOption('--targets', values.targets),
    inner,
    backend: values.backend,
    seed: integerOption('--seed', values.seed, 0),
    out: values.out ?? join('runs', `${timestamp()}-${textName(text)}`),
  };
}

function regExpOption(name: string, text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UsageError(`${name} takes a regular expression: ${(error as Error).message}`);
  }
}

/** What a run on these files is called. */
export function textName(paths: string[]): string {
  const [first] = paths;
  if (first === undefined) return 'typescript';
  return basename(first, extname(first)).replace(/[^\w.-]+/g, '-') || 'text';
}

/** The local time as 20260131-235959. */
function timestamp(): string {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
  return local.slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
}

import {basename, extname} from 'node:path';
import {readArguments} from '../arguments.js';
import {defaultRate, innerNames} from '../inner.js';
import {decimalOption, integerOption, textOption} from '../options.js';
import {UsageError} from '../usage-error.js';
import {innerAndRate, methodName, methodOf, methodTable} from './method-names.js';
import {comparedByDefault} from './methods.js';
import type {Plan} from './optimizer.js';

export const adaptHelp = `Usage: tfjs-lora adapt [options]

Adapts a small byte-level language model of English to another text through
LoRA or another method, and shows what it learned, what it forgot and what that
cost. Writes the adapter, report.html and result.json into a folder of their
own. With --compare it does so for several methods, one after another, and
writes one report of them all.

  --text FILE...   texts to learn (the typescript package's declarations)
  --method NAME    how to train (lora); \`--method list\` lists them all
  --compare [A,B]  methods to compare, each with the rank at which it trains
                   about as many numbers as lora does with --rank
                   (${comparedByDefault.join(', ')})
  --rank N         rank of the method (4 for lora)
  --alpha X        scale: a weight moves by alpha/rank A B (twice the rank
                   for lora)
  --lr X           peak learning rate (depends on --method and --inner;
                   ${defaultRate('adam')} for lora with adam)
  --lrs A,B,...    with --compare: rates to try of each method, as multiples of
                   its own; the best by held-out text counts (1)
  --steps N        training steps of 1024 bytes (150)
  --targets REGEX  names of the weights to adapt (every matrix)
  --inner NAME     ${innerNames.join(', ')}
                   (adam; what suits the method, where that is another)
  --backend NAME   tensorflow-gpu, tensorflow, webgpu, wasm or cpu (the first
                   that works)
  --seed N         seed of the factors, the batches and the samples (0)
  --out FOLDER     where the results are written; must not hold a run yet
                   (runs/TEXT or runs/TEXT-compared, and runs/TEXT-2 and so on
                   if that is taken)

Ctrl-C ends the training early and keeps what was done until then.

Examples:
  tfjs-lora adapt --steps 20
  tfjs-lora adapt --text notes.txt more.md --rank 8 --out runs/notes
  tfjs-lora adapt --targets "attention/(query|value)" --inner sgd
  tfjs-lora adapt --compare lora,full --lrs 0.3,1,3
`;

/** What the command line asks for, checked and with its defaults. */
export interface Options extends Plan {
  text: string[];
  backend: string | undefined;
  /** Where the run is written, if it was said. */
  out: string | undefined;
}

/** The same for a comparison: the plan of each method follows from it. */
export interface CompareOptions extends Omit<Options, 'method' | 'rank' | 'alpha' | 'lr' | 'inner'> {
  compare: string[];
  /** Of lora; the others are to train as many numbers. */
  rank: number;
  /** For every method, if it was said. */
  inner: string | undefined;
  /** For every method, if it was said. */
  lr: number | undefined;
  /** Rates to try, as multiples of `lr` or each method's own. */
  lrs: number[];
}

/** Text to print in place of a run. */
export interface Told {
  tell: string;
}

/**
 * What a command line asks for.
 * @throws UsageError for a value that does not fit, or an option that means nothing to what is asked for
 */
export function readOptions(args: string[]): Options | CompareOptions | Told {
  const given = readArguments(args, {
    ...{text: 'values', method: 'value', compare: 'list', rank: 'value', alpha: 'value', lr: 'value'},
    ...{lrs: 'value', steps: 'value', targets: 'value', inner: 'value', backend: 'value', seed: 'value'},
    ...{out: 'value', help: 'flag'},
  } as const);
  if (given.help) return {tell: adaptHelp};
  const {inner, backend, targets, out, compare} = given;
  if (given.method === 'list' || compare?.includes('list')) return {tell: methodTable()};
  const common = {
    text: (given.text ?? []).map(path => textOption('--text', path)),
    steps: integerOption('--steps', given.steps ?? '150', 1),
    targets: targets === undefined ? undefined : regExpOption('--targets', targets),
    backend,
    seed: integerOption('--seed', given.seed ?? '0', 0),
    out: out === undefined ? undefined : textOption('--out', out),
  };
  const asked = given.rank === undefined ? undefined : integerOption('--rank', given.rank, 1);
  const alpha = given.alpha === undefined ? undefined : decimalOption('--alpha', given.alpha);
  const lr = given.lr === undefined ? undefined : decimalOption('--lr', given.lr);
  if (compare) {
    if (given.method !== undefined)
      throw new UsageError('--method goes without --compare, which lists methods');
    if (alpha !== undefined) {
      throw new UsageError(
        '--alpha goes without --compare, where each method has its own multiple of its rank',
      );
    }
    if (inner !== undefined) defaultRate(inner);
    const lrs = listOption('--lrs', given.lrs ?? '1').map(factor => decimalOption('--lrs', factor));
    const rank = asked ?? methodOf('lora').rank!;
    return {...common, inner, compare: comparedMethods(compare), rank, lr, lrs};
  }
  if (given.lrs !== undefined) throw new UsageError('--lrs goes with --compare; --lr takes one rate');
  const name = methodName('--method', given.method ?? 'lora');
  const method = methodOf(name);
  if (asked !== undefined && method.rank === null) throw meaningless('--rank', name);
  if (alpha !== undefined && method.alpha === null) throw meaningless('--alpha', name);
  const rank = method.rank === null ? null : (asked ?? method.rank);
  const suited = innerAndRate(method, inner);
  return {
    ...common,
    method: name,
    rank,
    alpha: method.alpha === null ? null : (alpha ?? method.alpha * (rank ?? 1)),
    inner: suited.inner,
    lr: lr ?? suited.lr,
  };
}

const meaningless = (option: string, name: string) =>
  new UsageError(`${option} means nothing to --method ${name} (${methodOf(name).help}): leave it out`);

function comparedMethods(given: string[]): string[] {
  const names = given.flatMap(list => listOption('--compare', list));
  const chosen = names.length > 0 ? names.map(name => methodName('--compare', name)) : comparedByDefault;
  const twice = chosen.find((name, i) => chosen.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`--compare names ${twice} twice`);
  return chosen;
}

const listOption = (name: string, list: string) => list.split(',').map(item => textOption(name, item).trim());

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

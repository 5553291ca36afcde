import type {HostTensor} from './adapter.js';
import {expectBytes} from './expect.js';
import {product} from './host.js';
import {openSafetensors, type StoredTensor} from './safetensors.js';

/** Two factors that belong together in a file of anyone's. */
export interface DescribedPair {
  readonly module: string;
  readonly kind: 'dense' | 'conv' | 'embedding';
  readonly rank: number;
  /** Numbers that go in: of a convolution, channels times the window. */
  readonly in: number;
  readonly out: number;
  readonly dtype: string;
  /** Frobenius norm of the product of both, without the scale. */
  readonly norm: number;
}

export interface Described {
  readonly pairs: readonly DescribedPair[];
  /** Tensors that are no half of a pair, or of numbers that are not read (whole ones of 64 bits, floats of 8). */
  readonly others: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** How the two halves are called, and where the rank is: first for a down that is `[r, in, …]`, last for `[…, in, r]`. */
const NAMINGS: readonly {readonly down: RegExp; readonly up: string; readonly rank: 'first' | 'last'}[] = [
  {down: /^(.+)\.lora_A((?:\.default)?\.weight)$/, up: '.lora_B$2', rank: 'first'},
  {down: /^(.+)\.lora_embedding_A((?:\.default)?)$/, up: '.lora_embedding_B$2', rank: 'first'},
  {down: /^(.+)\.lora_down\.weight()$/, up: '.lora_up.weight', rank: 'first'},
  {down: /^(.+)\.lora\.down\.weight()$/, up: '.lora.up.weight', rank: 'first'},
  {down: /^(.+):down()$/, up: ':up', rank: 'first'},
  {down: /^(.+)\/lora_kernel_a()$/, up: '/lora_kernel_b', rank: 'last'},
  {down: /^(.+)\/lora_embeddings_a()$/, up: '/lora_embeddings_b', rank: 'last'},
];

/**
 * What a safetensors file of LoRA factors holds, as a table, whoever wrote it: PEFT, diffusers and kohya (`lora_down`,
 * `lora_up`), cloneofsimo's lora (`:down`, `:up`), Keras. Nothing is guessed: what does not come as a pair of that name
 * and of fitting shapes is listed among the others.
 *
 * @throws Error for a file that is not readable; see `decodeSafetensors`.
 */
export function describeSafetensors(bytes: Uint8Array): Described {
  expectBytes('describeSafetensors', bytes);
  const {entries, metadata, read} = openSafetensors(bytes);
  const tensors = new Map(
    entries.flatMap(entry => {
      const tensor = read(entry);
      return tensor ? [[entry.name, tensor] as const] : [];
    }),
  );
  const paired = new Set<string>();
  const pairs: DescribedPair[] = [];
  for (const [name, down] of tensors) {
    for (const {down: pattern, up: naming, rank} of NAMINGS) {
      const match = pattern.exec(name);
      if (!match) continue;
      const upName = match[1]! + naming.replace('$2', match[2]!);
      const up = tensors.get(upName);
      const pair = up && describePair(match[1]!, down, up, rank, /embedding/.test(naming));
      if (!pair) continue;
      pairs.push(pair);
      paired.add(name).add(upName);
    }
  }
  return {pairs, others: entries.map(({name}) => name).filter(name => !paired.has(name)), metadata};
}

function describePair(
  module: string,
  down: StoredTensor,
  up: StoredTensor,
  rank: 'first' | 'last',
  isEmbedding: boolean,
): DescribedPair | null {
  const [r, k] = rank === 'first' ? [down.shape[0], up.shape[1]] : [down.shape.at(-1), up.shape[0]];
  const out = rank === 'first' ? up.shape[0] : up.shape[1];
  if (!r || r !== k || !out || up.values.length !== r * out || down.shape.length < 2) return null;
  return {
    module,
    kind: isEmbedding ? 'embedding' : down.shape.length > 2 ? 'conv' : 'dense',
    rank: r,
    in: product(down.shape) / r,
    out,
    dtype: down.dtype,
    norm: normOfProduct(down, up, r, rank === 'first'),
  };
}

/** `||U D||^2 = <U^T U, D D^T>`: the product itself is not formed. */
function normOfProduct(down: HostTensor, up: HostTensor, r: number, isRankFirst: boolean): number {
  const gram = ({values}: HostTensor, isRow: boolean) => {
    const length = values.length / r;
    const at = (t: number, i: number) => values[isRow ? t * length + i : i * r + t]!;
    return Array.from({length: r * r}, (_, at2) => {
      const [s, t] = [Math.floor(at2 / r), at2 % r];
      let sum = 0;
      for (let i = 0; i < length; i++) sum += at(s, i) * at(t, i);
      return sum;
    });
  };
  const [ofDown, ofUp] = [gram(down, isRankFirst), gram(up, !isRankFirst)];
  return Math.sqrt(
    Math.max(
      0,
      ofDown.reduce((sum, value, i) => sum + value * ofUp[i]!, 0),
    ),
  );
}

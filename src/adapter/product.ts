import {recipeOf} from '../recipe.js';
import {type Scaling, scaling} from '../scaling.js';
import {matrixShape} from '../targets.js';
import type {AdapterWeight, HostTensor} from './adapter.js';
import {NoPlace} from './no-place.js';
import {below, beside, type HostArray, matrixOf, minus, sides, times, transposed} from './host.js';
import {errorOf} from './untrusted.js';

/** The change of a weight as `scale left right`, `[m, k]` times `[k, n]`: no approximation, only another notation. */
export interface ExactProduct {
  readonly left: HostArray;
  readonly right: HostArray;
  readonly scale: number;
  /** Where the factors are the method's own: the options its scale came from. */
  readonly scaling?: Required<Scaling>;
  /** DoRA: the lengths `[n]` of the columns of W, where `scale left right` is the change of V. */
  readonly magnitude?: HostTensor;
}

/**
 * What a weight has learned as one product, for formats that know nothing else. The inner size k is the rank, and twice
 * that after a start away from zero: `A B - A0 B0 = [A - A0, A0] [B; B - B0]`, which loses no digits of the change to
 * factors of 16 bits, as `[A, A0] [B; -B0]` would.
 *
 * @throws NoPlace where the change is no product, or one of so many columns that nothing is saved: that points to
 *   `extractAdapter`, which finds the nearest one. Error where factors are missing or do not fit each other.
 */
export function exactProduct(weight: AdapterWeight): ExactProduct {
  const {path, parametrization, shape} = weight;
  const call = parametrization && recipeOf(parametrization);
  const form = call && FORMS.get(call.name);
  const name = call?.name ?? parametrization?.name ?? 'a weight trained as it is';
  const advice = 'extractAdapter gives the nearest product of a rank you choose: export that';
  if (!form)
    throw new NoPlace(
      `${path} [${shape}]: the change that ${name} makes is no product of two factors. ${advice}`,
    );
  const options = (call.args[0] ?? {}) as Options;
  const tensors = new Map<string, HostTensor>(Object.entries({...weight.frozen, ...weight.factors}));
  const read = (key: string): HostTensor => {
    const found = tensors.get(key);
    if (found) return found;
    throw errorOf(
      `${path} [${shape}]: ${name} needs '${key}', and there are ${[...tensors.keys()].join(', ')}`,
    );
  };
  const made = form({options, read, has: key => tensors.has(key)});
  if (!made)
    throw new NoPlace(
      `${path} [${shape}]: the change that ${name} makes with these options is no product. ${advice}`,
    );
  const [[m, n], [rows, k], [inner, columns]] = [matrixShape(shape), sides(made.left), sides(made.right)];
  if (rows !== m || columns !== n || inner !== k || (made.scaling && made.scaling.rank !== k)) {
    throw errorOf(
      `${path} [${shape}]: the factors of ${name} are [${made.left.shape}] and [${made.right.shape}] where ` +
        `[${m},r] and [r,${n}] are needed${made.scaling ? `, r = ${made.scaling.rank}` : ''}`,
    );
  }
  if (made.derived && k > Math.min(m, n)) {
    throw new NoPlace(
      `${path} [${shape}]: the change that ${name} makes is a product only of rank ${k}. ${advice}`,
    );
  }
  return made;
}

interface Given {
  readonly options: Options;
  read(key: string): HostTensor;
  has(key: string): boolean;
}
type Options = Partial<Scaling> & Readonly<Record<string, unknown>>;
type Made = ExactProduct & {
  /** The factors are not the method's own. */
  readonly derived?: boolean;
};

/** A product, less the product it started from. */
type Pair = readonly [left: HostArray, right: HostArray];
const less = ([left, right]: Pair, from: Pair | null): {left: HostArray; right: HostArray} =>
  from
    ? {left: beside(minus(left, from[0]), from[0]), right: below(right, minus(right, from[1]))}
    : {left, right};

const ofOptions = ({rank = 8, alpha = rank, rankStabilised = false}: Options): Required<Scaling> => ({
  rank,
  alpha,
  rankStabilised,
});

const lora = ({options, read, has}: Given): Made => {
  const own = ofOptions(options);
  const from: Pair | null = has('aStart') ? [read('aStart'), read('bStart')] : null;
  return {
    ...less([read('a'), read('b')], from),
    scale: scaling('lora', own),
    ...(!from && {scaling: own}),
  };
};

/** Every product of a column of one and a column of the other: `(A1 B1) o (A2 B2)` is a product of these. */
const pairsOfColumns = (x: HostArray, y: HostArray) => {
  const [[m, r], [, q]] = [sides(x), sides(y)];
  return matrixOf(m, r * q, (i, j) => x.values[i * r + Math.floor(j / q)]! * y.values[i * q + (j % q)]!);
};

const kron = (x: HostArray, y: HostArray) => {
  const [[m1, n1], [m2, n2]] = [sides(x), sides(y)];
  return matrixOf(
    m1 * m2,
    n1 * n2,
    (i, j) => x.values[Math.floor(i / m2) * n1 + Math.floor(j / n2)]! * y.values[(i % m2) * n2 + (j % n2)]!,
  );
};
const identity = (n: number) => matrixOf(n, n, (i, j) => (i === j ? 1 : 0));

const FORMS: ReadonlyMap<string, (given: Given) => Made | null> = new Map<
  string,
  (given: Given) => Made | null
>([
  ['lora', lora],
  ['loraFA', lora],
  ['dora', given => ({...lora(given), magnitude: given.read('magnitude')})],
  [
    'mica',
    ({options, read}) => {
      const own = ofOptions(options);
      return {left: read('a'), right: read('frameB'), scale: scaling('mica', own), scaling: own};
    },
  ],
  [
    'osf',
    ({options, read, has}) => {
      const outsideColumns = (a: HostArray) =>
        has('u') ? minus(a, times(read('u'), times(transposed(read('u')), a))) : a;
      const outsideRows = (b: HostArray) =>
        has('v') ? minus(b, times(times(b, read('v')), transposed(read('v')))) : b;
      const pair = (end: string): Pair => [outsideColumns(read(`a${end}`)), outsideRows(read(`b${end}`))];
      return {
        ...less(pair(''), has('aStart') ? pair('Start') : null),
        scale: scaling('osf', ofOptions(options)),
      };
    },
  ],
  [
    'vera',
    ({read, has}) => {
      const frame = read('frameB');
      const [r, n] = sides(frame);
      const right = (end: string) => {
        const [d, b] = [read(`d${end}`).values, read(`b${end}`).values];
        return matrixOf(r, n, (i, j) => d[i]! * frame.values[i * n + j]! * b[j]!);
      };
      return {
        left: read('frameA'),
        right: has('dStart') ? minus(right(''), right('Start')) : right(''),
        scale: 1,
      };
    },
  ],
  [
    'loraXS',
    ({options, read, has}) => {
      const r = has('rStart') ? minus(read('r'), read('rStart')) : read('r');
      return {
        left: read('frameA'),
        right: times(r, read('frameB')),
        scale: scaling('loraXS', ofOptions(options)),
      };
    },
  ],
  [
    'loraSB',
    ({options, read}) => ({
      left: read('u'),
      right: times(read('r'), transposed(read('v'))),
      scale: scaling('loraSB', ofOptions({...options, rank: options.rank ?? 16})),
    }),
  ],
  [
    'galore',
    ({options, read, has}) => {
      const across = has('q') ? transposed(read('q')) : null;
      const scale = (options['scale'] as number | undefined) ?? 1;
      if (!has('p')) return {left: read('r'), right: across!, scale};
      return {left: read('p'), right: across ? times(read('r'), across) : read('r'), scale};
    },
  ],
  [
    'additive',
    ({options, read}) => {
      if ((options['form'] ?? 'sum') !== 'sum') return null;
      const [a, b] = [read('a'), read('b')];
      const [[m, p], [q, n]] = [sides(a), sides(b)];
      const left = beside(
        a,
        matrixOf(m, q, (i, j) => (i % q === j ? 1 : 0)),
      );
      const right = below(
        matrixOf(p, n, (i, j) => (j % p === i ? 1 : 0)),
        b,
      );
      return {left, right, scale: (options['scale'] as number | undefined) ?? 1, derived: true};
    },
  ],
  [
    'hadamard',
    ({options, read, has}) => {
      const pair = (end: string): Pair => [
        pairsOfColumns(read(`a1${end}`), read(`a2${end}`)),
        transposed(pairsOfColumns(transposed(read(`b1${end}`)), transposed(read(`b2${end}`)))),
      ];
      const scale = scaling('hadamard', ofOptions(options));
      return {...less(pair(''), has('a1Start') ? pair('Start') : null), scale, derived: true};
    },
  ],
  // C x D1 D2 = (C x D1) (I x D2) = (I x D1) (C x D2), whichever is narrower; with D whole, D1 or D2 is I.
  [
    'kronecker',
    ({options, read, has}) => {
      const pair = (end: string): Pair => {
        const c = read(`c${end}`);
        const [m1, n1] = sides(c);
        const d = has('d') ? read(`d${end}`) : null;
        const isTall = d !== null && d.shape[0]! > d.shape[1]!;
        const d1 = d ? (isTall ? d : identity(d.shape[0]!)) : read(`d1${end}`);
        const d2 = d ? (isTall ? identity(d.shape[1]!) : d) : read(`d2${end}`);
        return n1 <= m1 ? [kron(c, d1), kron(identity(n1), d2)] : [kron(identity(m1), d1), kron(c, d2)];
      };
      const scale = scaling('kronecker', ofOptions(options));
      return {...less(pair(''), has('cStart') ? pair('Start') : null), scale, derived: true};
    },
  ],
]);

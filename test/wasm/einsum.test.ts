import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import fc from 'fast-check';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';
import {installEinsum} from '../../src/wasm/einsum.js';
import {installFastMatMul} from '../../src/wasm/matmul.js';
import {expectAgreement, expectClose, filled, gradients, on} from './agreement.js';

let undoMatMul: () => void;
let undoEinsum: () => void;
beforeAll(async () => {
  undoMatMul = installFastMatMul();
  undoEinsum = installEinsum();
  await tf.setBackend('wasm');
});
afterAll(() => {
  undoEinsum();
  undoMatMul();
});

/** Every label has its own extent: a 1, b 2, c 3, … */
const shapeOf = (term: string) => [...term].map(label => label.charCodeAt(0) - 96);
const sizeOf = (term: string) => shapeOf(term).reduce((product, extent) => product * extent, 1);
const termsOf = (equation: string) => equation.split('->')[0]!.split(',');
const operands = (equation: string) => termsOf(equation).map((term, i) => filled(shapeOf(term), i + 1));

const evaluated = (equation: string) => () => tf.einsum(equation, ...operands(equation));
const differentiated = (equation: string) => () =>
  gradients((...xs) => tf.einsum(equation, ...xs), operands(equation));

function numbers(compute: () => tf.Tensor[]): number[][] {
  const tensors = tf.tidy(compute);
  const lists = tensors.map(tensor => [...tensor.dataSync()]);
  tf.dispose(tensors);
  return lists;
}

/**
 * The value, and the gradients that `differentiated` asks for, by a loop over all labels. The cpu backend is no
 * reference: where only one operand has a label that the result has not, it can give a wrong shape.
 */
function reference(equation: string): {value: number[]; slopes: number[][]} {
  const terms = termsOf(equation);
  const result = equation.split('->')[1]!;
  const labels = [...new Set(terms.join(''))];
  const given = numbers(() => operands(equation));
  const dy = numbers(() => [filled(shapeOf(result), 99)])[0]!;
  const value = Array<number>(sizeOf(result)).fill(0);
  const slopes = terms.map(term => Array<number>(sizeOf(term)).fill(0));
  const product = (factors: number[]) => factors.reduce((a, b) => a * b, 1);
  for (let cell = 0; cell < sizeOf(labels.join('')); cell++) {
    const at = new Map<string, number>();
    labels.reduce((rest, label) => {
      at.set(label, rest % sizeOf(label));
      return Math.floor(rest / sizeOf(label));
    }, cell);
    const place = (term: string) =>
      [...term].reduce((index, label) => index * sizeOf(label) + at.get(label)!, 0);
    const factors = terms.map((term, i) => given[i]![place(term)]!);
    value[place(result)]! += product(factors);
    terms.forEach((term, i) => {
      slopes[i]![place(term)]! += dy[place(result)]! * product(factors.filter((_, other) => other !== i));
    });
  }
  return {value, slopes};
}

/** Equations of one or two operands over a few labels. */
const some = (labels: string[]) => fc.shuffledSubarray(labels, {maxLength: 4}).map(list => list.join(''));
const equations = fc
  .tuple(some([...'abcdef']), fc.option(some([...'abcdef'])))
  .chain(([a, b]) =>
    fc
      .shuffledSubarray([...new Set(a + (b ?? ''))])
      .map(result => `${b === null ? a : `${a},${b}`}->${result.join('')}`),
  );

const typical = [
  'bc,cd->bd',
  'bc,cd->db',
  'cb,dc->bd',
  'abcd,abed->abce',
  'becd,bfcd->bcef',
  'bcef,bfcd->becd',
  'abc,cde->abde',
  'bcd,def->bcef',
  'bc,bc->',
  'bc,bc->b',
  'bc,bc->bc',
  'b,c->bc',
  'b,c->cb',
  ',bc->cb',
  'b,c->',
  'bcd,e->ce',
  'bc->cb',
  'bcd->c',
  'bc->',
  'bc->bc',
];

describe('einsum', () => {
  const check = async (equation: string) =>
    expectClose(await on('wasm', evaluated(equation)), [reference(equation).value], 1e-5);

  test.each(typical)('%s', check);

  test('any equation', () => fc.assert(fc.asyncProperty(equations, check), {numRuns: 200}));

  test.each(['bc,cd->bd', 'abcd,abed->abce', 'bcd,def->bcef', 'bcd->c'])(
    '%s: as on the cpu backend',
    equation => expectAgreement(evaluated(equation)),
  );

  test('spaces are allowed', () =>
    expectAgreement(() => tf.einsum('bc, cd -> bd', ...operands('bc,cd->bd'))));

  test('a vector it gives can be the bias of a stock fused matMul', async () => {
    undoMatMul();
    await expectAgreement(() =>
      tf.fused.matMul({
        a: filled([2, 4], 20) as tf.Tensor2D,
        b: filled([4, 3], 21) as tf.Tensor2D,
        bias: tf.einsum('b,bc->c', ...operands('b,bc->c')),
      }),
    );
    undoMatMul = installFastMatMul();
  });

  test('its result outlives its operand and the other way round', async () => {
    const x = filled([2, 3], 22);
    const values = [...x.dataSync()];
    const y = tf.einsum('bc->bc', x);
    x.dispose();
    expect([...(await y.data())]).toEqual(values);
    y.dispose();
  });

  test.each<[string, number[][], RegExp]>([
    ['bc,cd', [[2, 3], [3, 4]], /'bc,cd': there must be exactly one arrow/], // prettier-ignore
    ['bc,cd->bd', [[2, 3]], /1 operands given/],
    ['b,b,b->b', [[2], [2], [2]], /3 operands given/],
    ['bb->b', [[2, 2]], /a label occurs twice in bb/],
    ['b->bb', [[2]], /a label occurs twice in bb/],
    ['...b->b', [[2]], /labels are letters/],
    ['bc->b', [[2]], /bc does not fit shape \[2\]/],
    ['bc,cd->bd', [[2, 3], [4, 5]], /c is both 3 and 4/], // prettier-ignore
    ['b->c', [[2]], /c of the result is in no operand/],
  ])('%s on %j is refused', (equation, shapes, message) => {
    const zeros = shapes.map(shape => tf.zeros(shape));
    expect(() => tf.einsum(equation, ...zeros)).toThrow(message);
    tf.dispose(zeros);
  });

  test('int32 is refused', () => {
    const zeros = tf.zeros([2], 'int32');
    expect(() => tf.einsum('b->', zeros)).toThrow(/takes float32, got int32/);
    zeros.dispose();
  });
});

/** Central differences of the weighted sum of `f`, in float32: good to about 1e-3. */
function differences(f: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: () => tf.Tensor[]): number[][] {
  const shapes = tf.tidy(() => inputs().map(({shape}) => shape) as never) as number[][];
  const at = numbers(inputs);
  const value = (point: number[][]) => {
    const [[sum]] = numbers(() => {
      const y = f(...point.map((list, i) => tf.tensor(list, shapes[i]!)));
      return [tf.sum(tf.mul(y, filled(y.shape, 99)))];
    }) as [[number]];
    return sum;
  };
  const h = 1e-2;
  return at.map((list, i) =>
    list.map((_, j) => {
      const moved = (by: number) => at.map((l, k) => l.map((v, m) => (k === i && m === j ? v + by : v)));
      return (value(moved(h)) - value(moved(-h))) / (2 * h);
    }),
  );
}

describe('the gradient of einsum', () => {
  const check = async (equation: string) =>
    expectClose(await on('wasm', differentiated(equation)), reference(equation).slopes, 1e-5);

  test.each(typical)('%s', check);

  test('any equation', () => fc.assert(fc.asyncProperty(equations, check), {numRuns: 200}));

  test('on the cpu backend', async () => {
    const slopes = await on('cpu', differentiated('abcd,abed->abce'));
    expectClose(slopes, reference('abcd,abed->abce').slopes, 1e-5);
  });

  test('as the gradient of matMul', async () => {
    const build = (f: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor) => () =>
      gradients((a, b) => f(a!, b!), operands('bc,cd->bd'));
    const byEinsum = await on(
      'wasm',
      build((a, b) => tf.einsum('bc,cd->bd', a, b)),
    );
    expectClose(
      byEinsum,
      await on(
        'wasm',
        build((a, b) => tf.matMul(a, b)),
      ),
      1e-6,
    );
  });

  test('the gradient of the gradient', () =>
    expectAgreement(() => {
      const [a, b] = operands('bc,cd->bd') as [tf.Tensor, tf.Tensor];
      const slope = (x: tf.Tensor) => tf.grad(y => tf.square(tf.einsum('bc,cd->bd', y, b)).sum())(x);
      return gradients(x => slope(x!), [a]);
    }));

  test('attention: central differences', async () => {
    const attend = (q?: tf.Tensor, k?: tf.Tensor, v?: tf.Tensor) => {
      const scores = tf.einsum('bqhd,bkhd->bhqk', q!, k!);
      return tf.einsum('bhqk,bkhd->bqhd', tf.softmax(tf.mul(scores, 0.5)), v!);
    };
    const inputs = () => [0, 1, 2].map(i => filled([2, 3, 2, 4], 30 + i));
    const expected = differences(attend, inputs);
    expectClose(await on('wasm', () => gradients(attend, inputs())), expected, 2e-3);
    await expectAgreement(() => gradients(attend, inputs()));
  });
});

import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {beforeAll, beforeEach, describe, expect, test} from 'vitest';
import type {Gradient} from '../../src/capture/gradient.js';
import {tapGradients} from '../../src/capture/tape.js';
import {normal} from '../../src/index.js';

/** Weights that are cut before they are used: their gradients are those of the blocks. */

type Matrix = tf.Tensor2D;
const matrix = (rows: number, columns: number, seed = 9) => normal([rows, columns], seed) as Matrix;
const squared = (...ys: tf.Tensor[]) =>
  ys.map(y => tf.mean(tf.square(y))).reduce((a, b) => tf.add(a, b)) as tf.Scalar;

interface Case {
  shape: number[];
  loss(w: tf.Tensor): tf.Scalar;
  how?: RegExp;
}

const cases: Record<string, Case> = {
  'columns, split evenly (a fused qkv kernel)': {
    shape: [4, 9],
    loss(w) {
      const [q, k, v] = tf.split(w as Matrix, 3, 1).map(part => tf.matMul(matrix(5, 4), part)) as Matrix[];
      return squared(tf.matMul(tf.softmax(tf.matMul(q!, k!, false, true)), v!));
    },
  },
  'columns, split unevenly, from the end, one left to be inferred': {
    shape: [4, 7],
    loss(w) {
      const [a, b] = tf.split(w as Matrix, [3, -1], -1) as Matrix[];
      return squared(tf.matMul(matrix(5, 4), a!), tf.matMul(matrix(3, 4, 8), b!));
    },
  },
  'rows, split': {
    shape: [6, 5],
    loss(w) {
      const [a, b] = tf.split(w as Matrix, [2, 4]) as Matrix[];
      return squared(
        tf.matMul(tf.tanh(tf.matMul(matrix(3, 2), a!)), tf.matMul(b!, matrix(3, 4), true, true)),
      );
    },
  },
  'a slice of columns, the others not used': {
    shape: [4, 8],
    loss: w => squared(tf.matMul(matrix(5, 4), tf.slice(w as Matrix, [0, 2], [4, 3]))),
  },
  'a slice of rows, by a number': {
    shape: [6, 3],
    loss: w => squared(tf.matMul(matrix(5, 2), tf.slice(w, 4, 2) as Matrix)),
  },
  'a slice of both, and of that slice': {
    shape: [7, 8],
    loss(w) {
      const outer = tf.slice(w as Matrix, [1, 2], [5, 6]);
      return squared(
        tf.matMul(matrix(3, 5), outer),
        tf.matMul(matrix(3, 2), tf.slice(outer, [3, 1], [-1, 4])),
      );
    },
  },
  'slices that overlap': {
    shape: [4, 8],
    loss: w =>
      squared(
        tf.matMul(matrix(5, 4), tf.slice(w as Matrix, [0, 0], [4, 5])),
        tf.matMul(matrix(5, 4, 8), tf.slice(w as Matrix, [0, 3], [4, 5])),
        tf.matMul(matrix(5, 4, 7), w as Matrix),
      ),
  },
  'the transpose of a part': {
    shape: [4, 8],
    loss(w) {
      const [a, b] = tf.split(w as Matrix, 2, 1) as Matrix[];
      return squared(tf.matMul(matrix(5, 4), tf.transpose(a!)), tf.matMul(matrix(5, 4), b!, false, true));
    },
  },
  'a part of the transpose': {
    shape: [4, 8],
    loss(w) {
      const turned = tf.transpose(w as Matrix);
      const [a, b] = tf.split(turned, [3, 5]) as Matrix[];
      const columns = tf.slice(turned, [0, 1], [8, 2]);
      return squared(
        tf.matMul(a!, matrix(4, 5)),
        tf.matMul(matrix(4, 4), b!, false, true),
        tf.matMul(matrix(3, 8), columns),
      );
    },
  },
  'unstacked: three matrices in one weight': {
    shape: [3, 4, 5],
    loss(w) {
      const [a, b, c] = tf.unstack(w) as Matrix[];
      return squared(
        tf.matMul(matrix(2, 4), a!),
        tf.matMul(matrix(2, 4, 8), c!),
        tf.matMul(matrix(2, 4, 7), b!),
      );
    },
  },
  'a part that is reshaped': {
    shape: [3, 4, 5],
    loss: w => squared(tf.matMul(matrix(2, 8), tf.reshape(tf.slice(w, 1, 2), [8, 5]) as Matrix)),
  },
  'an embedding in a part of a table, and the part tied': {
    shape: [9, 6],
    loss(w) {
      const table = tf.slice(w as Matrix, [2, 1], [5, 4]);
      const rows = tf.gather(table, tf.tensor1d([4, 0, 0], 'int32'));
      return squared(tf.matMul(tf.tanh(rows), table, false, true));
    },
  },
  'a convolution in groups: filters split by output channels': {
    shape: [2, 3, 2, 4],
    loss(w) {
      const images = normal([2, 5, 5, 4], 9) as tf.Tensor4D;
      const [left, right] = tf.split(images, 2, 3) as tf.Tensor4D[];
      const [a, b] = tf.split(w, 2, 3) as tf.Tensor4D[];
      return squared(tf.tanh(tf.conv2d(left!, a!, 1, 'same')), tf.conv2d(right!, b!, 2, 'valid'));
    },
  },
  'one part by a product, the other by something else': {
    shape: [4, 8],
    loss(w) {
      const [a, b] = tf.split(w as Matrix, 2, 1) as Matrix[];
      return tf.add(squared(tf.matMul(matrix(5, 4), a!)), tf.sum(tf.abs(b!)));
    },
    how: /^mixed: Abs/,
  },
  'a part that does not reach the loss': {
    shape: [4, 8],
    loss(w) {
      const [a, b] = tf.split(w as Matrix, 2, 1) as Matrix[];
      tf.matMul(matrix(5, 4), b!);
      return squared(tf.matMul(matrix(5, 4), a!));
    },
  },
  'rows that are not in one piece': {
    shape: [3, 4, 5],
    loss(w) {
      const [a] = tf.split(w, 2, 1);
      return squared(tf.matMul(matrix(2, 6), tf.reshape(a!, [6, 5]) as Matrix));
    },
    how: /^dense: SplitV/,
  },
  'a weight that is a batch of matrices': {
    shape: [2, 4, 6],
    loss: w => squared(tf.matMul(normal([2, 5, 4], 9), w)),
    how: /^dense: a batch of matrices in a matMul/,
  },
  'a GRU that resets after the product': {shape: [4, 12], loss: w => resetAfter(w as Matrix, 5)},
};

/** A gated recurrent unit over some steps; its recurrent kernel is split in two at each. */
function resetAfter(w: Matrix, steps: number): tf.Scalar {
  let h = matrix(3, 4);
  for (let step = 0; step < steps; step++) {
    const x = matrix(3, 12, 20 + step);
    const [gates, candidate] = tf.split(w, [8, 4], 1) as Matrix[];
    const [xz, xr, xh] = tf.split(x, 3, 1) as Matrix[];
    const [hz, hr] = tf.split(tf.matMul(h, gates!), 2, 1) as Matrix[];
    const [z, r] = [tf.sigmoid(tf.add(xz!, hz!)), tf.sigmoid(tf.add(xr!, hr!))];
    const next = tf.tanh(tf.add(xh!, tf.mul(r, tf.matMul(h, candidate!))));
    h = tf.add(tf.mul(z, h), tf.mul(tf.sub(1, z), next));
  }
  return squared(h);
}

/** What is asked of the gradient of a weight, while it is there. */
function captured<T extends tf.TensorContainer>(
  w: tf.Variable,
  loss: () => tf.Scalar,
  ask: (gradient: Gradient) => T,
): {answer: T; how: string} {
  let got: {answer: T; how: string} | undefined;
  tapGradients(loss, [w], (_, gradient, {path, why}) => {
    expect(got, 'handed over once').toBeUndefined();
    got = {
      answer: tf.keep(tf.tidy(() => ask(gradient)) as tf.Tensor) as T,
      how: why ? `${path}: ${why}` : path,
    };
  });
  return got!;
}

describe.each(['cpu', 'wasm'])('a weight that is cut, on %s', backend => {
  beforeAll(async () => {
    expect(await tf.setBackend(backend)).toBe(true);
  });
  beforeEach(() => tf.engine().startScope());

  test.each(Object.entries(cases))('%s', async (_, {shape, loss, how = /^factored/}) => {
    const w = tf.variable(normal(shape, 1));
    const columns = shape.at(-1)!;
    const rows = w.size / columns;
    const [p, q] = [matrix(rows, 2, 5), matrix(columns, 3, 6)];
    const asked: Record<string, (g: Gradient) => tf.Tensor> = {
      dense: g => g.dense(),
      leftMul: g => g.leftMul(p),
      rightMul: g => g.rightMul(q),
      rowSums: g => g.rowSums(),
      columnSums: g => g.columnSums(),
      norm2: g => g.norm2(),
    };
    const answers = Object.entries(asked).map(([name, ask]) => {
      const {answer, how: came} = captured(w, () => loss(w), ask);
      expect(came).toMatch(how);
      return [name, answer] as const;
    });
    // Stock wasm has no gradient of its own for filters and tables.
    await tf.setBackend('cpu');
    const dense = tf.reshape(tf.variableGrads(() => loss(w), [w]).grads[w.name]!, [rows, columns]) as Matrix;
    const wanted: Record<string, tf.Tensor> = {
      dense,
      leftMul: tf.matMul(p, dense, true),
      rightMul: tf.matMul(dense, q),
      rowSums: tf.sum(dense, 1, true),
      columnSums: tf.sum(dense, 0, true),
      norm2: tf.sum(tf.square(dense)),
    };
    const size = Math.max(tf.norm(dense).dataSync()[0]!, tf.sum(tf.square(dense)).dataSync()[0]!);
    for (const [name, answer] of answers) {
      expect(answer.shape, name).toEqual(wanted[name]!.shape);
      const off = tf.max(tf.abs(tf.sub(answer, wanted[name]!))).dataSync()[0]!;
      expect(off / size, name).toBeLessThan(2e-5);
    }
    await tf.setBackend(backend);
  });

  test('steps are stacked: as many products for eight as for two; the norm forms no matrix', async () => {
    const w = tf.variable(matrix(4, 12, 1));
    const kernelsOf = async (steps: number, ask: (g: Gradient) => tf.Tensor) => {
      let profile: Promise<{kernelNames: string[]}> | undefined;
      tapGradients(
        () => resetAfter(w, steps),
        [w],
        (_, gradient) => {
          profile = tf.profile(() => ask(gradient)) as typeof profile;
        },
      );
      return (await profile!).kernelNames.sort();
    };
    const q = matrix(12, 2);
    const names = await kernelsOf(2, g => g.rightMul(q));
    expect(names).toContain('BatchMatMul');
    expect(await kernelsOf(8, g => g.rightMul(q))).toEqual(names);
    expect(await kernelsOf(2, g => g.norm2())).not.toContain('PadV2');
  });

  test('the input is known where it is on the side of the rows', () => {
    const [x, ids] = [matrix(5, 4), tf.tensor1d([3, 0, 3], 'int32')];
    const images = normal([2, 5, 4, 1], 7) as tf.Tensor4D;
    const uses: [(w: tf.Tensor) => tf.Tensor, tf.Tensor | null][] = [
      [w => tf.matMul(x, w as Matrix), x],
      [w => tf.matMul(tf.transpose(x), w as Matrix, true), x],
      [w => tf.matMul(x, tf.transpose(w as Matrix), false, true), x],
      [
        w =>
          tf.concat(
            tf.split(w as Matrix, 2, 1).map(part => tf.matMul(x, part)),
            1,
          ),
        tf.concat([x, x]),
      ],
      [w => tf.gather(w, ids), tf.oneHot(ids, 4)],
      [
        w => tf.conv2d(images, tf.reshape(w, [2, 2, 1, 6]) as tf.Tensor4D, 1, 'valid'),
        tf.conv2d(images, tf.reshape(tf.eye(4), [2, 2, 1, 4]) as tf.Tensor4D, 1, 'valid'),
      ],
      [w => tf.matMul(matrix(5, 6), w as Matrix, false, true), null],
      [w => tf.matMul(w as Matrix, matrix(6, 5)), null],
      [w => tf.matMul(matrix(5, 2), tf.slice(w as Matrix, 2)), null],
      [w => tf.add(tf.matMul(x, w as Matrix), tf.slice(tf.abs(w), 0, 1)), null],
    ];
    const q = matrix(4, 3, 5);
    for (const [use, input] of uses) {
      const w = tf.variable(matrix(4, 6, 1));
      tapGradients(
        () => squared(use(w)),
        [w],
        (_, gradient) => {
          expect(gradient.inputGram !== undefined, String(use)).toBe(input !== null);
          if (!input) return;
          const rows = tf.cast(tf.reshape(input, [-1, 4]), 'float32') as Matrix;
          const wanted = tf.matMul(rows, tf.matMul(rows, q), true);
          const off = tf.max(tf.abs(tf.sub(gradient.inputGram!(q), wanted)));
          expect(off.dataSync()[0]!, String(use)).toBeLessThan(1e-4);
        },
      );
    }
  });

  test('nothing is left behind', () => {
    const w = tf.variable(matrix(4, 12, 1));
    const step = () =>
      tf.tidy(() =>
        tapGradients(
          () => resetAfter(w, 3),
          [w],
          (_, gradient) => void gradient.norm2(),
        ).dataSync(),
      );
    step();
    const {numTensors, numDataBuffers} = tf.memory();
    step();
    expect(tf.memory()).toMatchObject({numTensors, numDataBuffers});
  });
});

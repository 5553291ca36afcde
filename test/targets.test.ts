import * as tf from '@tensorflow/tfjs';
import {afterEach, describe, expect, it} from 'vitest';
import {full, lora, type Targets} from '../src/index.js';
import {matrixShape, plainName, Plan} from '../src/targets.js';

afterEach(() => tf.disposeVariables());

const weight = (name: string, shape: number[] = [16, 16], dtype: 'float32' | 'int32' = 'float32') =>
  tf.variable(tf.zeros(shape, dtype), true, name);

const rank2 = lora({rank: 2});

/** What happens to weights of these names under these targets: the treatment's name. */
function treatments(
  targets: Targets | undefined,
  names: string[],
  rest: 'freeze' | 'train' = 'freeze',
): string[] {
  const plan = new Plan(rank2, targets, rest);
  return names.map(name => {
    const {treatment} = plan.decide(weight(name));
    return typeof treatment === 'string' ? treatment : treatment.name;
  });
}

describe('a pattern', () => {
  it('is a RegExp on the name, with or without the number tfjs appends, global ones included', () => {
    const names = ['q/kernel', 'q/kernel_3', 'q/bias', 'kernel/q'];
    expect(treatments(/kernel$/, names)).toEqual(['lora', 'lora', 'freeze', 'freeze']);
    expect(treatments(/kernel$/gy, ['kernel', 'kernel_1'])).toEqual(['lora', 'lora']);
  });

  it('is a name, or whole segments of one', () => {
    const names = [
      'block0/attention/query/kernel',
      'block0/attention_out/kernel',
      'block00/attention/kernel',
    ];
    expect(treatments('block0/attention', names)).toEqual(['lora', 'freeze', 'freeze']);
    expect(treatments('kernel', ['d/kernel_2', 'd/recurrent_kernel', 'd/kernels'])).toEqual([
      'lora',
      'freeze',
      'freeze',
    ]);
  });

  it('is a predicate on name and shape', () => {
    const plan = new Plan(rank2, ({name, shape}) => name.startsWith('q') && shape[0] === 16, 'freeze');
    expect(plan.trains(weight('query'))).toBe(true);
    expect(plan.trains(weight('query2', [8, 16]))).toBe(false);
    expect(plan.trains(weight('key'))).toBe(false);
  });

  it('of another kind is refused', () => {
    expect(() => treatments(5 as never, ['a'])).toThrow(/5 is no RegExp, name, list of names or predicate/);
    expect(() => treatments([] as string[], ['a'])).toThrow(/empty list/);
    expect(() => treatments([['a', 'thaw' as never]], ['a'])).toThrow(/rule 1 \("a"\).*not thaw/);
  });
});

describe('rules', () => {
  it('are read in order, the first that matches wins, and rest takes the others', () => {
    const rules: Targets = [
      ['q/bias', 'freeze'],
      [/bias/, 'train'],
      [['q', 'k'], full()],
    ];
    const names = ['q/bias', 'k/bias', 'q/kernel', 'k/kernel', 'v/kernel'];
    expect(treatments(rules, names)).toEqual(['freeze', 'train', 'full', 'full', 'freeze']);
    expect(treatments(rules, ['x/kernel'], 'train')).toEqual(['train']);
  });

  it('that match nothing are an error with the names seen, each name of a list by itself', () => {
    const seen = [weight('encoder/kernel', [32, 16]), weight('encoder/bias', [16])];
    const check = (targets: Targets) => () => new Plan(rank2, targets, 'freeze').check(seen);
    expect(check('encodr')).toThrow(
      /"encodr" matches no weight.*encoder\/kernel \[32,16\], encoder\/bias \[16\]/,
    );
    expect(check(['encoder', 'decoder'])).toThrow(/"decoder" matches no weight/);
    expect(
      check([
        [/kernel/, rank2],
        [/gamma/, 'train'],
      ]),
    ).toThrow(/\/gamma\/ matches no weight/);
    expect(check(({name}) => name === 'x')).toThrow(/matches no weight/);
    expect(check([[/./, 'freeze']])).toThrow(/every weight is frozen/);
    expect(check('encoder')).not.toThrow();
  });

  it('are asked at the first step only: later there may be fewer weights', () => {
    const plan = new Plan(rank2, ['q', 'k'], 'freeze');
    const [q, k] = [weight('q'), weight('k')];
    plan.check([q, k]);
    expect(() => plan.check([q])).not.toThrow();
  });
});

describe('by default', () => {
  const decide = (shape: number[], rank = 8) => {
    const {treatment, why} = new Plan(lora({rank}), undefined, 'freeze').decide(tf.variable(tf.zeros(shape)));
    return [typeof treatment === 'string' ? treatment : treatment.name, why];
  };

  it('matrices in which the rank saves something are targets', () => {
    // 8 (16 + 16) = 256 = 16 * 16 saves nothing; 8 (17 + 16) = 264 < 272 does.
    expect(decide([16, 16])[0]).toBe('freeze');
    expect(decide([16, 16])[1]).toMatch(/too small/);
    expect(decide([17, 16])[0]).toBe('lora');
    // [3, 3, 8, 32] is [72, 32]: 8 * 104 = 832 < 2304.
    expect(decide([3, 3, 8, 32])).toEqual(['lora', 'a matrix of 72 x 32']);
  });

  it('vectors and scalars are not', () => {
    expect(decide([4096], 1)).toEqual(['freeze', 'not a matrix']);
    expect(decide([], 1)).toEqual(['freeze', 'not a matrix']);
  });

  it('whole numbers are never trained, whatever the rules say', () => {
    const plan = new Plan(rank2, /./, 'train');
    expect(plan.decide(weight('steps', [16, 16], 'int32'))).toMatchObject({
      treatment: 'freeze',
      rule: 'dtype',
    });
  });

  it('a weight too small for the rank is trained as it is when a rule names it', () => {
    const plan = new Plan(lora({rank: 8}), 'w', 'freeze');
    expect(plan.decide(weight('w', [16, 16]))).toMatchObject({
      treatment: 'train',
      why: 'lora would train as many numbers or more',
    });
  });

  it('an optimizer that would train nothing says so', () => {
    const plan = new Plan(lora({rank: 8}), undefined, 'freeze');
    expect(() => plan.check([weight('w', [4, 4])])).toThrow(/Lower the rank.*w \[4,4\]/);
    expect(() => plan.check([])).toThrow(/seen: none/);
  });
});

it('a weight of any rank is seen as [all axes but the last, the last]', () => {
  expect([[], [5], [4, 5], [3, 4, 5], [2, 3, 4, 5]].map(matrixShape)).toEqual([
    [1, 1],
    [1, 5],
    [4, 5],
    [12, 5],
    [24, 5],
  ]);
});

it('a plain name lacks the number at the end only', () => {
  expect(['kernel_12', 'dense_1/kernel', 'kernel', 'w_1_2'].map(plainName)).toEqual([
    'kernel',
    'dense_1/kernel',
    'kernel',
    'w_1',
  ]);
});

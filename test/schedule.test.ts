import {describe, expect, it} from 'vitest';
import {at, constant, cosine, every, linear, never, restarts, type Schedule} from '../src/index.js';

const due = (schedule: Schedule) => Array.from({length: 10}, (_, i) => i).filter(schedule);

describe('schedules', () => {
  it('say at which steps something is due, the first step being 0', () => {
    expect(due(never)).toEqual([]);
    expect(due(every(3))).toEqual([3, 6, 9]);
    expect(due(every(1))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(due(at([0, 4, 4, 20]))).toEqual([0, 4]);
  });

  it('refuse what is no number of steps', () => {
    for (const n of [0, -1, 1.5, NaN, '3' as never]) expect(() => every(n)).toThrow(/every: n/);
    expect(() => every('3' as never)).toThrow("not '3'");
  });
});

describe('learning rates', () => {
  const rates = (rate: (step: number, where: object) => number, count: number) =>
    Array.from({length: count}, (_, i) => rate(i, {}));

  it('stay constant', () => expect(rates(constant(0.1), 3)).toEqual([0.1, 0.1, 0.1]));

  it('warm up and fall in a line to the floor', () => {
    // Up by 4/2 a step; then from 4 to 1 in 3 steps, and 1 for ever.
    expect(rates(linear(4, {steps: 5, warmup: 2, floor: 1}), 7)).toEqual([2, 4, 4, 3, 2, 1, 1]);
  });

  it('warm up and fall along half a cosine', () => {
    // (1 + cos(pi p)) / 2 at p = 0, 1/4, 1/2, 3/4, 1: 1, 0.853553, 0.5, 0.146447, 0.
    const seen = rates(cosine(1, {steps: 4}), 6);
    [1, 0.853553, 0.5, 0.146447, 0, 0].forEach((expected, i) => expect(seen[i]).toBeCloseTo(expected, 6));
    expect(rates(cosine(1, {steps: 8, warmup: 4}), 5)).toEqual([0.25, 0.5, 0.75, 1, 1]);
  });

  it('restart: the cosine, begun again from 1/rewarm of where it is', () => {
    const options = {steps: 12, warmup: 2, floor: 0.1};
    const [whole, jagged] = [
      rates(cosine(1, options), 14),
      rates(restarts(1, {...options, every: 5, rewarm: 4}), 14),
    ];
    const ramp = [1, 1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 0.25, 0.5, 0.75, 1];
    jagged.forEach((rate, step) => expect(rate).toBeCloseTo(whole[step]! * ramp[step]!, 12));
    // Without a word about it, the warm-up after a restart is as long as the first.
    expect(rates(restarts(1, {...options, every: 5}), 8)[5]).toBeCloseTo(whole[5]! / 2, 12);
    expect(rates(restarts(1, {steps: 12, every: 5}), 14)).toEqual(rates(cosine(1, {steps: 12}), 14));
    expect(() => restarts(1, {steps: 1000, every: 100, warmup: 200})).toThrow(
      'restarts: warmup, where no rewarm is given, must be a number from 0 to every (100), not 200',
    );
    for (const wrong of [{every: 0}, {every: 2.5}, {every: 3, rewarm: 4}, {every: 3, warmup: 4}])
      expect(() => restarts(1, {steps: 9, ...wrong})).toThrow(/restarts: (every|rewarm|warmup)/);
    expect(() => restarts(1, {steps: 0, every: 3})).toThrow(/restarts: steps/);
  });

  it('refuse rates and lengths that make no sense', () => {
    expect(() => constant(NaN)).toThrow(/constant: rate/);
    expect(() => cosine(-1, {steps: 5})).toThrow(/cosine: peak/);
    expect(() => linear(1, {steps: 0})).toThrow(/linear: steps/);
    expect(() => cosine(1, {steps: 5, warmup: 5})).toThrow(/warmup/);
    expect(() => cosine(1, {steps: 5, floor: -1})).toThrow(/floor/);
    for (const decay of [cosine, linear, restarts] as ((peak: number, options?: object) => unknown)[]) {
      expect(() => decay(1)).toThrow(/(cosine|linear|restarts): options must be an object, not undefined/);
      expect(() => decay(1, {steps: 5, every: 2, warmUp: 1})).toThrow(/unknown option '(every|warmUp)'/);
    }
    expect(() => restarts(1, {steps: 5, every: 2, rewarmup: 1} as never)).toThrow(
      "restarts: unknown option 'rewarmup'; it takes 'steps', 'warmup', 'floor', 'every', 'rewarm'",
    );
  });
});

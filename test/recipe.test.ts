import {describe, expect, it} from 'vitest';
import {cosine, every, full, kaiming, lora, orthogonal, recipe, symmetric} from '../src/index.js';
import {fromJson, recipeOf, toJson} from '../src/recipe.js';

/** Through a file and back. */
const roundTrip = (value: unknown) => fromJson(JSON.parse(JSON.stringify(toJson(value))), 'options');

describe('a recipe', () => {
  it('remembers the call that made a value', () => {
    const made = lora({rank: 3});
    expect(recipeOf(made)).toEqual({name: 'lora', args: [{rank: 3}]});
    expect(recipeOf({})).toBeUndefined();
  });

  it('makes the value again from JSON, whatever it is nested in', () => {
    for (const value of [
      lora({rank: 3, alpha: 6, init: symmetric({std: 0.5})}),
      lora({init: orthogonal({gain: 2, both: true}), rankStabilised: true}),
      full(),
      {
        targets: [
          [/a\/b_c/gi, lora({rank: 1})],
          ['q', 'train'],
        ],
        refresh: every(3),
        rest: 'train',
      },
      {learningRate: cosine(0.1, {steps: 5}), clipNorm: 2},
      [1, 'two', true, null],
    ]) {
      const back = roundTrip(value);
      expect(toJson(back)).toEqual(toJson(value));
    }
    const back = roundTrip({schedule: cosine(0.1, {steps: 5, warmup: 1})}) as {
      schedule: (step: number) => number;
    };
    for (const step of [0, 2, 9])
      expect(back.schedule(step)).toBe(cosine(0.1, {steps: 5, warmup: 1})(step, {}));
    expect(roundTrip(/a b/giu)).toEqual(/a b/giu);
  });

  it('keeps numbers that JSON does not know, and forgets what is undefined', () => {
    expect(roundTrip({a: Infinity, b: -Infinity, c: NaN, d: undefined, e: -0.5})).toEqual({
      a: Infinity,
      b: -Infinity,
      c: NaN,
      e: -0.5,
    });
  });

  it('keeps a default argument that was not given apart from one that was', () => {
    const seen: unknown[][] = [];
    const pair = recipe('recipeTest/pair', (...args: unknown[]) => {
      seen.push(args);
      return {};
    });
    roundTrip(pair(undefined, 2));
    expect(seen).toEqual([
      [undefined, 2],
      [undefined, 2],
    ]);
  });
});

describe('what a file cannot hold', () => {
  it('comes back as a stand-in that says what it was, when it is used', () => {
    const mine = {...lora(), init: () => ({factors: {}})};
    const back = roundTrip({
      targets: () => true,
      parametrization: mine,
      nested: {init: kaiming(), schedule: () => 1},
      when: new Date(0),
    }) as Record<string, () => unknown> & {
      nested: {schedule: () => unknown};
      parametrization: {init(): unknown; delta(): unknown};
    };
    expect(back['targets']).toThrow(/`options.targets` was a function of yours/);
    expect(back.parametrization.init).toThrow(/`options.parametrization.init` was a function of yours/);
    expect(back.parametrization.delta).toThrow(/of yours/);
    expect(back.nested.schedule).toThrow(/`options.nested.schedule`/);
    expect(back['when']).toThrow(/an object of yours/);
  });

  it('and a recipe this program does not contain names itself', () => {
    const back = fromJson({$recipe: 'someone/elses', args: []}, 'parametrization') as () => unknown;
    expect(back).toThrow(
      /`parametrization` was made by `someone\/elses`, which this program does not contain/,
    );
  });
});

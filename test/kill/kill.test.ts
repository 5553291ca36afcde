import {afterAll, beforeAll, expect, test} from 'vitest';
// @ts-expect-error plain JavaScript
import {trainings} from './trainings.mjs';

// A few deaths where they hurt most; `.ci/kill.mjs` has two hundred at every stage.
let prepared: any;
beforeAll(async () => (prepared = await trainings(12)));
afterAll(() => prepared.end());

const dies = (stage: string, count = 2) => ({stage, count});

test.each([
  [
    'many',
    [
      dies('weights partly written'),
      dies('model.json partly written', 4),
      dies('model.json renamed'),
      dies('old model.json removed', 1),
    ],
  ],
  ['one', [dies('encoding', 3), dies('model.json partly written', 4), dies('old weights removed')]],
])('trainings that die in a save go on from the newest checkpoint that is whole: %s', async (kind, plans) => {
  expect(await prepared.endure(kind, kind, plans)).toBe(plans.length);
  expect(prepared.problems).toEqual([]);
  expect(prepared.counts.read).toBeGreaterThan(2);
});

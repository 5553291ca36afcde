import {expect, test} from 'vitest';
// @ts-expect-error plain JavaScript
import {deviation, differences, judge} from '../places/judge.mjs';

const left = {steps: 0, buffers: 0, disposed: 0};
const trained = {losses: [2, 1], changes: [0.5, -0.25], left};
const base = {scenarios: {GRU: {auto: trained}}, features: {vera: {values: [1, -2], left: 0}}};
const cpu = {name: 'Chromium cpu', where: 'Chromium', backend: 'cpu', kernels: false};

const complaintsOf = (auto: object, place = cpu, name = 'GRU'): string[] =>
  judge(
    place,
    {scenarios: {[name]: {auto}}, features: {}, warnings: []},
    {scenarios: {[name]: {auto: trained}}, features: {}},
  ).complaints;

test('the deviation is relative to the largest number, and infinite for what is no number', () => {
  expect(deviation([1, 2.2], [1, 2])).toBeCloseTo(0.1);
  for (const bad of [NaN, Infinity, null]) expect(deviation([1, bad], [1, 2])).toBe(Infinity);
  expect(deviation([1], [1, 2])).toBe(Infinity);
});

test('what trains as cpu does is fine; each other thing is a complaint', () => {
  expect(complaintsOf(trained)).toEqual([]);
  expect(complaintsOf({...trained, losses: [2, 1.001]}).join()).toMatch('GRU, auto: differs from cpu');
  expect(complaintsOf({...trained, changes: [0.5, null]}).join()).toMatch('not finite');
  expect(complaintsOf({...trained, losses: [1, 2]}).join()).toMatch('the loss did not fall');
  for (const key of Object.keys(left)) {
    expect(complaintsOf({...trained, left: {...left, [key]: 3}}).join()).toMatch('left 3 tensors');
  }
  expect(complaintsOf({error: 'no such kernel'}).join()).toMatch('no such kernel');
});

test('a known fault must show, and be that one', () => {
  const stock = {name: 'Node wasm', where: 'Node', backend: 'wasm', kernels: false};
  const name = 'max pooling of negative numbers';
  expect(complaintsOf({...trained, changes: [0.5, 0.5]}, stock, name)).toEqual([]);
  expect(complaintsOf(trained, stock, name).join()).toMatch('agrees with cpu, though');
});

test('a place that is not there is skipped, one that fails is a complaint', () => {
  expect(judge(cpu, {skipped: 'no browser'}, base)).toEqual({skipped: 'no browser', complaints: []});
  expect(judge(cpu, {failed: 'crashed'}, base).complaints).toEqual(['crashed']);
});

test('the check finds what changed, and not that a rounding did', () => {
  const place = (auto: object) => ({'Node cpu': {models: {GRU: {auto}}, features: {}}});
  const fine = {trains: true, deviation: 1e-6, left: 0};
  expect(differences(place(fine), place({...fine, deviation: 3e-6}))).toEqual([]);
  expect(differences(place(fine), {})).toHaveLength(1);
  for (const other of [
    {error: 'no'},
    {...fine, left: 1},
    {...fine, deviation: 0.5},
    {...fine, trains: false},
  ]) {
    expect(differences(place(fine), place(other))).toHaveLength(1);
  }
});

import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test} from 'vitest';

interface Part {
  x: Float32Array;
  y: Float32Array;
  rows: number;
}
interface Table {
  features: string[];
  train: Part;
  validation: Part;
  test: Part;
  unit: number;
  middle: number;
}
const shared = (name: string) => new URL(`../../examples/shared/${name}.mjs`, import.meta.url).href;
const {madeUpTown, readHousing} = (await import(shared('table/table'))) as {
  madeUpTown: (town: {seed: number; rows: number; middle: [number, number]; income: number}) => Table;
  readHousing: (folder: string) => Table;
};
const {alwaysTheMean, error, linearRegression} = (await import(shared('table/regression'))) as {
  alwaysTheMean: (table: Table) => number;
  error: (model: tf.LayersModel, table: Table, part: Part) => number;
  linearRegression: (table: Table) => number;
};
const {tryRates} = (await import(shared('rates'))) as {
  tryRates: (
    rates: number[],
    attempt: (rate: number) => Promise<{score: number}>,
    options?: {more?: number},
  ) => Promise<{best: {rate: number}; tried: {rate: number}[]}>;
};

const folder = mkdtempSync(join(tmpdir(), 'table-'));
beforeAll(() => tf.setBackend('cpu'));
afterAll(() => rmSync(folder, {recursive: true}));

const town = {seed: 3, rows: 200, middle: [0, 0] as [number, number], income: 10_000};
const column = ({x, rows}: Part, k: number) => Array.from({length: rows}, (_, i) => x[8 * i + k]!);
const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;

test('scales are those of the rows to learn from; what is held out has its own mean', () => {
  const table = madeUpTown(town);
  expect([table.train.rows, table.validation.rows, table.test.rows]).toEqual([160, 20, 20]);
  for (const values of [...table.features.map((_, k) => column(table.train, k)), table.train.y]) {
    expect(mean(values)).toBeCloseTo(0, 5);
    expect(mean(Array.from(values, value => value ** 2))).toBeCloseTo(1, 5);
  }
  expect(Math.abs(mean(table.test.y))).toBeGreaterThan(1e-3);
});

test('an empty cell gets the median; text is not read; a column that lacks is named', () => {
  const names =
    'longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,households,median_income';
  const rows = Array.from({length: 20}, (_, i) => {
    const bedrooms = i === 4 || i === 9 ? '' : `${i % 3}`;
    return `${i},${i * i},${i % 7},${i},${bedrooms},${i},${i},${i},${1000 * i},INLAND`;
  });
  mkdirSync(join(folder, 'california-housing'));
  const write = (head: string) =>
    writeFileSync(join(folder, 'california-housing', 'housing.csv'), [head, ...rows].join('\n'));
  write(`${names},median_house_value,ocean_proximity`);
  const table = readHousing(folder);
  const all = [table.train, table.validation, table.test].flatMap(part => [...part.x, ...part.y]);
  expect(all.length).toBe(20 * 9);
  expect(all.every(Number.isFinite)).toBe(true);
  expect(new Set(column(table.train, 4)).size).toBe(3);
  write(`${names.replace('population', 'people')},median_house_value,ocean_proximity`);
  expect(() => readHousing(folder)).toThrow(/has no column population$/);
});

describe('floors', () => {
  const line = (table: Table) => {
    for (const part of [table.train, table.test])
      for (let i = 0; i < part.rows; i++) part.y[i] = 0.5 * part.x[8 * i]! - 2 * part.x[8 * i + 3]! + 0.25;
    return table;
  };

  test('a straight line finds a straight line, also where a column says what another does', () => {
    const table = line(madeUpTown(town));
    expect(linearRegression(table) / table.unit).toBeLessThan(1e-6);
    for (const part of [table.train, table.test])
      for (let i = 0; i < part.rows; i++) part.x[8 * i + 7] = part.x[8 * i + 6]!;
    expect(linearRegression(table) / table.unit).toBeLessThan(1e-6);
  });

  test('a straight line is what a single layer could learn at best, and the mean what a layer of zeros says', () => {
    const table = madeUpTown(town);
    const model = tf.sequential({
      layers: [tf.layers.dense({units: 1, inputShape: [8], kernelInitializer: 'zeros'})],
    });
    expect(error(model, table, table.test)).toBeCloseTo(alwaysTheMean(table), 1);
    const straight = linearRegression({...table, test: table.train});
    expect(straight).toBeLessThan(alwaysTheMean({...table, test: table.train}));
    for (const step of [-0.01, 0.01]) {
      const bent = {
        ...table,
        train: {...table.train, y: table.train.y.map((y, i) => y + step * column(table.train, 0)[i]!)},
      };
      expect(linearRegression({...bent, test: table.train})).toBeGreaterThan(straight);
    }
    model.dispose();
  });
});

describe('tryRates', () => {
  const peak = (at: number) => (rate: number) => Promise.resolve({score: -Math.abs(Math.log(rate / at))});

  test('goes on while the best is at an edge, up or down', async () => {
    expect((await tryRates([0.01, 0.03], peak(0.3))).tried.map(({rate}) => rate)).toEqual([
      ...[0.01, 0.03, 0.09, 0.27, 0.81],
    ]);
    expect((await tryRates([0.01, 0.03], peak(0.3))).best.rate).toBe(0.27);
    expect((await tryRates([0.09, 0.3], peak(0.03))).tried.map(({rate}) => rate)).toEqual([
      ...[0.01, 0.03, 0.09, 0.3],
    ]);
  });

  test('stops inside, at the limit, and never takes a training that went to pieces', async () => {
    expect((await tryRates([0.01, 0.03, 0.1], peak(0.03))).tried.length).toBe(3);
    expect((await tryRates([0.01, 0.03], peak(100), {more: 2})).tried.length).toBe(4);
    const high = (rate: number) => Promise.resolve({score: rate > 0.02 ? NaN : rate});
    expect((await tryRates([0.03, 0.1, 0.01, 0.003], high)).best.rate).toBe(0.01);
    const low = (rate: number) => Promise.resolve({score: rate < 0.01 ? NaN : -rate});
    expect((await tryRates([0.003, 0.01, 0.03], low)).best.rate).toBe(0.01);
  });
});

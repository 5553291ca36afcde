// Tables of numbers: read, split, and brought to one scale by what is learned from alone.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {random, shuffle} from '../random.mjs';

/**
 * Rows to learn from, to choose by and to measure, features and label in standard deviations from their mean.
 * @typedef {{x: Float32Array, y: Float32Array, rows: number}} Part  x: [rows, features], y: [rows]
 * @typedef {{features: string[], train: Part, validation: Part, test: Part, unit: number, middle: number}} Table
 *   unit, middle: the standard deviation and the mean of the label, in dollars
 */

const features = [
  ...['longitude', 'latitude', 'housing_median_age', 'total_rooms', 'total_bedrooms'],
  ...['population', 'households', 'median_income'],
];

/** California's block groups of 1990: the eight columns that are numbers, and the median value of a house in dollars. */
export function readHousing(folder) {
  const [heading, ...lines] = readFileSync(join(folder, 'california-housing', 'housing.csv'), 'utf8')
    .trim()
    .split(/\r?\n/)
    .map(line => line.split(','));
  const columns = [...features, 'median_house_value'].map(name => heading.indexOf(name));
  const missing = columns.indexOf(-1);
  if (missing >= 0) throw new Error(`housing.csv has no column ${features[missing] ?? 'median_house_value'}`);
  return table(
    features,
    lines.map(cells => columns.map(column => (cells[column] === '' ? NaN : Number(cells[column])))),
  );
}

/**
 * Houses of a town made in code, whose prices follow from size, age and the way to the middle of the town.
 * @param {{seed: number, rows: number, middle: [number, number], income: number}} town `middle`: where it is dear;
 *   `income`: what a unit of income adds, in dollars
 */
export function madeUpTown({seed, rows, middle, income}) {
  const next = random(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const lines = Array.from({length: rows}, () => {
    const place = [4 * next() - 2, 4 * next() - 2];
    const [age, size, earned] = [50 * next(), Math.exp(0.4 * normal()), 4 + 1.5 * normal()];
    const far = Math.hypot(place[0] - middle[0], place[1] - middle[1]);
    const price = 80_000 + income * earned + 150_000 * size * Math.exp(-far) + 8_000 * normal() - 400 * age;
    const rooms = 1000 * size;
    const [bedrooms, people, homes] = [0.2, 0.5, 0.18].map(share => rooms * share * (1 + 0.1 * normal()));
    return [...place, age, rooms, bedrooms, people, homes, earned, price];
  });
  return table(features, lines);
}

/**
 * Eight tenths of the rows to learn from, a tenth to choose by, a tenth to measure, always the same ones. An empty cell
 * (NaN) gets the median of its column. Medians, means and deviations are those of the rows to learn from.
 * @param {number[][]} lines the features of each row and, last, its label
 * @returns {Table}
 */
function table(features, lines) {
  const order = shuffle([...lines], random(7));
  const [learn, choose] = [Math.floor(0.8 * lines.length), Math.floor(0.9 * lines.length)];
  const scales = order[0].map((_, column) => {
    const known = order.slice(0, learn).map(cells => cells[column]);
    const values = known.filter(value => !Number.isNaN(value)).sort((a, b) => a - b);
    const median = values[Math.floor(values.length / 2)];
    const filled = known.map(value => (Number.isNaN(value) ? median : value));
    const mean = filled.reduce((sum, value) => sum + value, 0) / learn;
    const deviation = Math.sqrt(filled.reduce((sum, value) => sum + (value - mean) ** 2, 0) / learn);
    return {median, mean, deviation};
  });
  const part = (from, to) => {
    const scaled = order.slice(from, to).map(cells =>
      cells.map((value, column) => {
        const {median, mean, deviation} = scales[column];
        return ((Number.isNaN(value) ? median : value) - mean) / deviation;
      }),
    );
    return {
      rows: to - from,
      x: Float32Array.from(scaled.flatMap(cells => cells.slice(0, -1))),
      y: Float32Array.from(scaled, cells => cells.at(-1)),
    };
  };
  return {
    features,
    ...{train: part(0, learn), validation: part(learn, choose), test: part(choose, lines.length)},
    ...{unit: scales.at(-1).deviation, middle: scales.at(-1).mean},
  };
}

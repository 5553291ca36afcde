import {expect, test} from 'vitest';
import {centeredMean, curvesChart, dotChart, lossChart, niceTicks, tickLabel} from '../../src/cli/chart.js';
import {reportPage} from '../../src/cli/report.js';

const loss = [5, 4, 3.5, 3.25];
const levels = [
  {name: 'held out, before', bits: 5.5},
  {name: 'held out, after', bits: 3},
];
const report = {
  title: 'A <title>',
  subtitle: 'wasm',
  tables: [
    [
      ['Bits', 'before'],
      ['new & old', '3.1'],
    ],
  ],
  charts: [{title: 'Curves & dots', html: '<svg id="curve"></svg>'}],
  facts: [['Backend', 'a & b']] as [string, string][],
  usage: {title: 'Go on', command: 'npm run generate -- --adapter "x y"', note: 'beside <this>'},
  samples: [{title: 'After', text: '<script>alert("x")</script>'}],
};

test('the page stands alone and escapes what it shows', () => {
  const page = reportPage(report);
  expect(page).toContain('A &lt;title&gt;');
  expect(page).toContain('<td>new &amp; old</td><td>3.1</td>');
  expect(page).toContain('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;');
  expect(page).toContain('<dt>Backend</dt><dd>a &amp; b</dd>');
  expect(page).toContain('--adapter &quot;x y&quot;');
  expect(page).toContain('<h2>Curves &amp; dots</h2>\n<svg id="curve"></svg>');
  expect(page).toContain('beside &lt;this&gt;');
  expect(page).not.toMatch(/<script|src=|href=|@import|url\(/);
});

/** The points of every curve of a chart. */
const curves = (chart: string) =>
  [...chart.matchAll(/polyline points="([^"]*)"/g)].map(([, points]) =>
    points!
      .split(' ')
      .filter(pair => pair !== '')
      .map(pair => pair.split(',').map(Number) as [number, number]),
  );

test('a chart says what it measures', () => {
  expect(lossChart({loss, levels})).toContain('bits per byte, training');
  expect(lossChart({loss, levels, unit: 'nats'})).toContain('>nats, training<');
});

test('a curve has a point for every step, inside the picture', () => {
  for (const values of [loss, [2], [3, 3, 3]]) {
    const chart = lossChart({loss: values, levels});
    expect(curves(chart).length).toBe(2);
    for (const points of curves(chart)) {
      expect(points.length).toBe(values.length);
      for (const [x, y] of points) {
        expect(x).toBeGreaterThanOrEqual(0);
        expect(x).toBeLessThanOrEqual(720);
        expect(y).toBeGreaterThanOrEqual(0);
        expect(y).toBeLessThanOrEqual(320);
      }
    }
  }
});

test('curves of several trainings share their axes, and differ in colour and in pattern', () => {
  const series = Array.from({length: 42}, (_, i) => ({name: `method ${i}`, loss: [5 + i / 50, 4 + i / 50]}));
  const chart = curvesChart(series);
  const lines = curves(chart);
  // Means of both steps: each line is flat, and as much higher than the one before.
  lines.forEach(([start, end]) => expect(start![1]).toBe(end![1]));
  const gaps = lines.slice(1).map((line, i) => lines[i]![0]![1] - line[0]![1]);
  expect(Math.max(...gaps) - Math.min(...gaps)).toBeLessThan(0.11);
  expect(gaps[0]).toBeGreaterThan(1);
  const styles = [...chart.matchAll(/<polyline [^>]*?(stroke=.*?)\/>/g)].map(([, style]) => style!);
  expect(new Set(styles).size).toBe(series.length);
  const patterns = styles.slice(0, 6).map(style => /dasharray="([^"]*)"/.exec(style)?.[1]);
  expect(new Set(patterns).size).toBe(6);
  for (const [i, {name}] of series.entries()) {
    expect(chart.includes(`${styles[i]}/></svg> ${name}</span>`), name).toBe(true);
  }
  expect(
    curves(
      curvesChart([
        {name: 'short', loss: [3]},
        {name: 'long', loss: [3, 2, 1]},
      ]),
    ).map(l => l.length),
  ).toEqual([1, 3]);
});

test('a training that diverges leaves the others legible, and one without a step has no line', () => {
  const wild = [
    {name: 'wild', loss: [4, 1e30, NaN, Infinity]},
    {name: 'none', loss: []},
    {name: 'tame', loss: [4, 3]},
  ];
  const chart = curvesChart(wild);
  expect(chart).toContain('Losses above 9 count as 9');
  expect(curvesChart([wild[2]!])).not.toContain('Losses above');
  for (const [, y] of curves(chart).flat()) {
    expect(y).toBeGreaterThanOrEqual(0);
    expect(y).toBeLessThanOrEqual(400);
  }
  expect(curvesChart([wild[1]!])).toContain('<svg');
});

test('dots stand where their values are, on an axis of each panel', () => {
  const dots = (values: number[]) => values.map((value, i) => ({name: `m${i}`, value}));
  const chart = dotChart([
    {name: 'learned', before: 4, dots: dots([3, 2])},
    {name: 'forgotten', before: 2, dots: dots([2.1, 2.2])},
  ]);
  const x = [...chart.matchAll(/<circle cx="([\d.]+)"/g)].map(([, at]) => Number(at));
  const level = [...chart.matchAll(/<line x1="([\d.]+)"[^>]*dasharray/g)].map(([, at]) => Number(at));
  expect(x.length).toBe(4);
  // One bit is as far as the other.
  expect(level[0]! - x[0]!).toBeCloseTo(x[0]! - x[1]!, 0);
  expect(level[0]).toBeGreaterThan(x[0]!);
  expect(x[3]! - level[1]!).toBeCloseTo(2 * (x[2]! - level[1]!), 0);
  expect(x[2]).toBeGreaterThan(level[0]!);
});

test('ticks are round and enclose the range', () => {
  expect(niceTicks(0, 150, 5)).toEqual([0, 50, 100, 150]);
  expect(niceTicks(2.1, 4.7, 5)).toEqual([2, 3, 4, 5]);
  expect(niceTicks(3, 3, 5).length).toBeGreaterThan(1);
  expect(niceTicks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
});

test('the bold line is the mean of the ten around each step', () => {
  const mean = centeredMean(Array.from({length: 30}, (_, i) => i));
  expect(mean[15]).toBe(14.5);
  expect(mean[0]).toBe(2);
  expect(mean[29]).toBe(26.5);
});

test('ticks are told apart in little room, however large', () => {
  const labels = (low: number, high: number) => {
    const ticks = niceTicks(low, high, 5);
    return ticks.map(tick => tickLabel(tick, ticks));
  };
  expect(labels(0, 2.4)).toEqual(['0.0', '0.5', '1.0', '1.5', '2.0', '2.5']);
  expect(labels(0, 9000)).toEqual(['0', '2000', '4000', '6000', '8000', '10000']);
  expect(labels(4.1e10, 7.8e10)).toEqual(['4e10', '5e10', '6e10', '7e10', '8e10']);
  expect(labels(0, 1e11)).toEqual(['0', '2e10', '4e10', '6e10', '8e10', '1e11']);
  for (const [low, high] of [
    [-3e7, 9e7],
    [99_990, 100_012],
    [1e5, 1.0004e5],
    [0, 3e38],
  ] as const) {
    const all = labels(low, high);
    expect(new Set(all).size).toBe(all.length);
    for (const label of all) expect(label.length).toBeLessThanOrEqual(9);
    expect(all.map(Number)).toEqual(niceTicks(low, high, 5));
  }
});

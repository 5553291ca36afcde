import {expect, test} from 'vitest';
import {centeredMean, niceTicks} from '../../src/cli/chart.js';
import {reportPage} from '../../src/cli/report.js';

const report = {
  title: 'A <title>',
  subtitle: 'wasm',
  tables: [
    [
      ['Bits', 'before'],
      ['new & old', '3.1'],
    ],
  ],
  loss: [5, 4, 3.5, 3.25],
  levels: [
    {name: 'held out, before', bits: 5.5},
    {name: 'held out, after', bits: 3},
  ],
  facts: [['Backend', 'a & b']] as [string, string][],
  usage: 'npm run generate -- --adapter "x y"',
  samples: [{title: 'After', text: '<script>alert("x")</script>'}],
};

test('the page stands alone and escapes what it shows', () => {
  const page = reportPage(report);
  expect(page).toContain('A &lt;title&gt;');
  expect(page).toContain('<td>new &amp; old</td><td>3.1</td>');
  expect(page).toContain('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;');
  expect(page).toContain('<dt>Backend</dt><dd>a &amp; b</dd>');
  expect(page).toContain('--adapter &quot;x y&quot;');
  expect(page).not.toMatch(/<script|src=|href=|@import|url\(/);
});

test('the curve has a point for every step, inside the picture', () => {
  for (const loss of [report.loss, [2], [3, 3, 3]]) {
    const [, points] = /polyline points="([^"]*)"/.exec(reportPage({...report, loss}))!;
    const pairs = points!.split(' ').map(pair => pair.split(',').map(Number) as [number, number]);
    expect(pairs.length).toBe(loss.length);
    for (const [x, y] of pairs) {
      expect(x).toBeGreaterThanOrEqual(0);
      expect(x).toBeLessThanOrEqual(720);
      expect(y).toBeGreaterThanOrEqual(0);
      expect(y).toBeLessThanOrEqual(320);
    }
  }
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

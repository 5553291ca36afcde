import {expect, test} from 'vitest';
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
  samples: [{title: 'After', text: '<script>alert("x")</script>'}],
};

test('the page stands alone and escapes what it shows', () => {
  const page = reportPage(report);
  expect(page).toContain('A &lt;title&gt;');
  expect(page).toContain('<td>new &amp; old</td><td>3.1</td>');
  expect(page).toContain('&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;');
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
      expect(y).toBeLessThanOrEqual(260);
    }
  }
});

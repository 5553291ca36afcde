import {expect, test} from 'vitest';
import {duration, progressLine} from '../../src/cli/progress.js';

function terminal(isTTY: boolean) {
  const written: string[] = [];
  return {isTTY, written, write: (text: string) => written.push(text)};
}

test('a terminal line rewrites itself', () => {
  const out = terminal(true);
  let now = 0;
  const progress = progressLine(out, () => now);
  for (let step = 1; step <= 2; step++) {
    now += 500;
    progress.update({step, steps: 4, loss: 3, tokens: 1000});
  }
  progress.end();
  expect(out.written).toEqual([
    '\r\x1b[Kstep 1/4  3.000 bits per byte  2000 tokens/s  2 s left',
    '\r\x1b[Kstep 2/4  3.000 bits per byte  2000 tokens/s  1 s left',
    '\n',
  ]);
});

test('piped, a line comes now and then, and at the end', () => {
  const out = terminal(false);
  let now = 0;
  const progress = progressLine(out, () => now);
  for (let step = 1; step <= 30; step++) {
    now += 1000;
    progress.update({step, steps: 30, loss: 3, tokens: 1000});
  }
  progress.end();
  expect(out.written.map(line => line.split(' ')[1])).toEqual(['10/30', '20/30', '30/30']);
  expect(out.written.every(line => line.endsWith('left\n') && !line.includes('\r'))).toBe(true);
});

test('durations', () => {
  expect([0.4, 59, 65, 3599.6, 7620].map(duration)).toEqual([
    '0 s',
    '59 s',
    '1 min 05 s',
    '1 h 00 min',
    '2 h 07 min',
  ]);
});

import {expect, test} from 'vitest';
import {duration, progressLine, withProgress} from '../../src/cli/progress.js';

function terminal(isTTY: boolean, columns = 80) {
  const written: string[] = [];
  return {isTTY, columns, written, write: (text: string) => written.push(text)};
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
    '\r\x1b[Kstep 1/4  training loss 3.000 bits/byte  2000 tokens/s  2 s left',
    '\r\x1b[Kstep 2/4  training loss 3.000 bits/byte  2000 tokens/s  1 s left',
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

test('the line is shorter than the terminal, and shows the mean of the last twenty steps', () => {
  const out = terminal(true, 30);
  const wide = terminal(true, 200);
  const [narrow, full] = [progressLine(out), progressLine(wide)];
  for (let step = 1; step <= 40; step++) {
    const report = {step, steps: 40, loss: step <= 20 ? 8 : 2, tokens: 1000};
    narrow.update(report);
    full.update(report);
  }
  expect(out.written.every(line => line.replace('\r\x1b[K', '').length === 29)).toBe(true);
  expect(wide.written[19]).toContain('training loss 8.000');
  expect(wide.written[39]).toContain('training loss 2.000');
});

test('other units, and large losses', () => {
  const out = terminal(true, 200);
  const progress = progressLine(out, () => 0, '', {loss: '', tokens: 'examples'});
  progress.update({step: 1, steps: 2, loss: 12345678, tokens: 32});
  expect(out.written[0]).toContain('step 1/2  training loss 1.235e+7  32000 examples/s');
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

test('a line is ended whatever becomes of the work', async () => {
  const written: string[] = [];
  const terminal = {isTTY: true, columns: 80, write: (text: string) => written.push(text)};
  const step = {step: 1, steps: 2, loss: 1, tokens: 1};
  const done = await withProgress(progressLine(terminal), async onStep => {
    onStep(step);
    return 'done';
  });
  expect([done, written.at(-1)]).toEqual(['done', '\n']);
  written.length = 0;
  const failed = withProgress(progressLine(terminal), async onStep => {
    onStep(step);
    throw new Error('no memory');
  });
  await expect(failed).rejects.toThrow('no memory');
  expect(written.at(-1)).toBe('\n');
});

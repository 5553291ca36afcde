// A line that shows how a training goes.
import {duration, percent} from './format.mjs';

const meanOver = 20;
const secondsBetweenLines = 10;

/**
 * Step, loss and, where there is one, accuracy (means of the last 20 steps), and the time left. On a terminal the line
 * rewrites itself; elsewhere one is printed every ten seconds and at the end.
 * @returns {(now: {step: number, steps: number, loss: number, accuracy?: number}) => void}
 */
export function progressLine(label = '', {unit = '', out = process.stderr} = {}) {
  const start = performance.now();
  let printed = start;
  const recent = [];
  return ({step, steps, loss, accuracy}) => {
    recent.push({loss, accuracy});
    if (recent.length > meanOver) recent.shift();
    const now = performance.now();
    if (!out.isTTY && step < steps && now - printed < secondsBetweenLines * 1000) return;
    printed = now;
    const mean = key => recent.reduce((sum, each) => sum + each[key], 0) / recent.length;
    const left = duration((((steps - step) / step) * (now - start)) / 1000);
    const right = accuracy === undefined ? '' : `  accuracy ${percent(mean('accuracy'))}`;
    const line = `${label}step ${step}/${steps}  loss ${mean('loss').toFixed(3)}${unit}${right}  ${left} left`;
    const end = step === steps ? '\n' : '';
    out.write(out.isTTY ? `\r\x1b[K${line.slice(0, (out.columns || 80) - 1)}${end}` : `${line}\n`);
  };
}

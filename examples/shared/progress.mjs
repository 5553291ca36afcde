// A line that shows how a training goes.

const meanOver = 20;
const secondsBetweenLines = 10;

/**
 * Step, loss and accuracy (means of the last 20 steps) and the time left. On a terminal the line rewrites itself;
 * piped, one is printed every ten seconds and at the end.
 */
export function progressLine(label = '', out = process.stderr) {
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
    const line =
      `${label}step ${step}/${steps}  loss ${mean('loss').toFixed(3)}` +
      `  accuracy ${(100 * mean('accuracy')).toFixed(1)} %  ${left} left`;
    if (out.isTTY)
      out.write(`\r\x1b[K${line.slice(0, (out.columns || 80) - 1)}${step === steps ? '\n' : ''}`);
    else out.write(`${line}\n`);
  };
}

/** Seconds as 42 s or 3 min 05 s. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

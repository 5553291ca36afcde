/** What a training loop reports after a step. */
export interface Step {
  /** Steps done, from 1. */
  step: number;
  steps: number;
  /** In the unit of the line. */
  loss: number;
  /** Tokens, or whatever the line counts, of one step. */
  tokens: number;
}

/** Where lines go: `process.stderr`, or a stand-in for tests. */
export interface Terminal {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** The shortest time between two lines, in seconds, when the output is not a terminal. */
const secondsBetweenLines = 10;

/** Steps whose mean is shown. */
const meanOver = 20;

/** What a progress line measures in. */
export interface Units {
  /** Of the loss; empty where it has none. */
  loss: string;
  /** What a step is made of. */
  tokens: string;
}

/**
 * A progress line: step, training loss (the mean of the last 20 steps), tokens a second, time left. On a terminal
 * it rewrites itself and is never longer than a row; piped, it prints a line now and then.
 * @param now the time in milliseconds
 * @param label what the line begins with
 */
export function progressLine(
  out: Terminal = process.stderr,
  now: () => number = () => performance.now(),
  label = '',
  units: Units = {loss: 'bits/byte', tokens: 'tokens'},
) {
  const start = now();
  let printed = start;
  const recent: number[] = [];
  let open = false;
  return {
    update({step, steps, loss, tokens}: Step): void {
      recent.push(loss);
      if (recent.length > meanOver) recent.shift();
      const mean = recent.reduce((sum, value) => sum + value, 0) / recent.length;
      const seconds = Math.max(now() - start, 1) / 1000;
      const due = now() - printed >= secondsBetweenLines * 1000 || step === steps;
      if (!out.isTTY && !due) return;
      printed = now();
      const speed = Math.round((step * tokens) / seconds);
      const left = duration(((steps - step) * seconds) / step);
      const done = `${label}step ${step}/${steps}`;
      const line = `${done}  training loss ${[shown(mean), units.loss].join(' ').trim()}  ${speed} ${units.tokens}/s  ${left} left`;
      open = out.isTTY === true;
      out.write(open ? `\r\x1b[K${line.slice(0, (out.columns || 80) - 1)}` : `${line}\n`);
    },
    /** Ends the line, so that other output can follow. */
    end(): void {
      if (open) out.write('\n');
      open = false;
    },
  };
}

/** Does some work that reports its steps to a progress line; whatever becomes of it, the line is ended. */
export async function withProgress<T>(
  progress: ReturnType<typeof progressLine>,
  work: (onStep: (step: Step) => void) => Promise<T>,
): Promise<T> {
  try {
    return await work(progress.update);
  } finally {
    progress.end();
  }
}

const shown = (loss: number) => (Math.abs(loss) < 1000 ? loss.toFixed(3) : loss.toPrecision(4));

/** Seconds as `42 s`, `3 min 05 s` or `2 h 07 min`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

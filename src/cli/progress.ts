/** What a training loop reports after a step. */
export interface Step {
  /** Steps done, from 1. */
  step: number;
  steps: number;
  /** Bits per byte. */
  loss: number;
  /** Tokens of one step. */
  tokens: number;
}

/** Where lines go: `process.stderr`, or a stand-in for tests. */
export interface Terminal {
  isTTY?: boolean;
  write(text: string): unknown;
}

/** The shortest time between two lines, in seconds, when the output is not a terminal. */
const secondsBetweenLines = 10;

/**
 * A progress line: step, loss (smoothed), tokens a second, time left. On a terminal it rewrites itself;
 * piped, it prints a line now and then.
 * @param now the time in milliseconds
 */
export function progressLine(out: Terminal = process.stderr, now: () => number = () => performance.now()) {
  const start = now();
  let printed = start;
  let smooth: number | undefined;
  return {
    update({step, steps, loss, tokens}: Step): void {
      smooth = smooth === undefined ? loss : 0.95 * smooth + 0.05 * loss;
      const seconds = Math.max(now() - start, 1) / 1000;
      const due = now() - printed >= secondsBetweenLines * 1000 || step === steps;
      if (!out.isTTY && !due) return;
      printed = now();
      const speed = Math.round((step * tokens) / seconds);
      const left = duration(((steps - step) * seconds) / step);
      const line = `step ${step}/${steps}  ${smooth.toFixed(3)} bits per byte  ${speed} tokens/s  ${left} left`;
      out.write(out.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
    },
    /** Ends the line, so that other output can follow. */
    end(): void {
      if (out.isTTY) out.write('\n');
    },
  };
}

/** Seconds as `42 s`, `3 min 05 s` or `2 h 07 min`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

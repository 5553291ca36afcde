/** The exit code of a program that a signal ended. */
const exitCodes = {SIGINT: 130, SIGTERM: 143, SIGHUP: 129} as const;

/**
 * From now on the first SIGINT (Ctrl-C), SIGTERM or SIGHUP aborts `signal` instead of ending the program; a second
 * one ends it. `off` undoes that.
 */
export class Interruption {
  private readonly controller = new AbortController();
  private code: number | undefined;
  private readonly listeners = Object.entries(exitCodes).map(([name, code]) => {
    const listener = () => {
      this.code = code;
      this.off();
      this.controller.abort();
    };
    process.on(name, listener);
    return [name, listener] as const;
  });

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** What to exit with, once a signal came. */
  get exitCode(): number | undefined {
    return this.code;
  }

  off(): void {
    for (const [name, listener] of this.listeners) process.off(name, listener);
  }
}

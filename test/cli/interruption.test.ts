import {expect, test} from 'vitest';
import {Interruption} from '../../src/cli/interruption.js';

test('the first signal aborts and names the exit code; the second would end the program', () => {
  for (const [signal, code] of Object.entries({SIGINT: 130, SIGTERM: 143, SIGHUP: 129})) {
    const listeners = process.listenerCount(signal);
    const interruption = new Interruption();
    expect(process.listenerCount(signal)).toBe(listeners + 1);
    expect([interruption.signal.aborted, interruption.exitCode]).toEqual([false, undefined]);
    process.emit(signal as NodeJS.Signals);
    expect([interruption.signal.aborted, interruption.exitCode]).toEqual([true, code]);
    expect(process.listenerCount(signal)).toBe(listeners);
  }
});

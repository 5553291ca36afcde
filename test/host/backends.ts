import * as tf from '@tensorflow/tfjs';
import '@tensorflow/tfjs-backend-wasm';
import {afterEach, beforeAll, beforeEach, describe, expect} from 'vitest';

export type Backend = 'cpu' | 'wasm';

/** The same suite on both backends that run everywhere; every test leaves the engine as it found it. */
export function onEachBackend(title: string, suite: (backend: Backend) => void): void {
  describe.each(['cpu', 'wasm'] as const)(`${title}, on %s`, backend => {
    beforeAll(async () => {
      await tf.setBackend(backend);
      expect(tf.getBackend()).toBe(backend);
    });
    beforeEach(() => tf.engine().startScope());
    afterEach(() => {
      tf.disposeVariables();
      tf.engine().endScope();
    });
    suite(backend);
  });
}

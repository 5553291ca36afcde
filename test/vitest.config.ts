import {fileURLToPath} from 'node:url';
import {defineConfig} from 'vitest/config';

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The wasm backend turns a rejection into an exception of its own; two workers for two cores.
    maxWorkers: 2,
    reporters: ['default', ['json', {outputFile: 'temp/tests.json'}]],
  },
});

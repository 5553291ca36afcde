// What a browser downloads besides tfjs: everything, and one factory alone. Fails when either grows past its limit.
// The goal for one factory is 15 KiB; a good part of what is above it is the text of error messages. Everything has
// ml-matrix in it, which only methods that decompose matrices need.
import {gzipSync} from 'node:zlib';
import {build} from 'esbuild';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const cases = [
  ['everything', `export * from 'tfjs-lora';`, 62 * 1024],
  ['loraAdam alone', `export {loraAdam} from 'tfjs-lora';`, 29 * 1024],
  // No side effect but the registration: what is not used is dropped.
  ['cosine alone', `export {cosine} from './dist/schedule.js';`, 1024],
];
let failed = false;
for (const [name, contents, limit] of cases) {
  const {outputFiles} = await build({
    stdin: {contents, resolveDir: root},
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
    external: ['@tensorflow/tfjs-core'],
    logLevel: 'error',
  });
  const bytes = gzipSync(outputFiles[0].contents, {level: 9}).length;
  console.log(`${name}: ${bytes} bytes gzipped (limit ${limit})`);
  failed ||= bytes > limit;
}
if (failed) process.exit(1);

// What a browser downloads besides tfjs: for each thing one may import, its size and what must not come with it. Fails
// when a size grows past its limit, which stands a little above what was measured. docs/bundle.md tells why they are
// what they are. The lines that import tfjs-core are not counted: in an app the bundler resolves them.
import {readFileSync} from 'node:fs';
import {gzipSync} from 'node:zlib';
import {build} from 'esbuild';
import {fileURLToPath} from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const decompositions = /ml-matrix/;
const methods = /dist\/(parametrizations|precondition)\//;
const othersThanPeft = /dist\/(parametrizations\/(?!lora\.js|dora\.js)|precondition\/)/;
const otherMethods = /dist\/(parametrizations\/(?!lora\.js)|precondition\/)/;
const entries = /dist\/(adapter|models|resume|rules|wasm|testing|reference|cli)\//;

const cases = [
  // [what, KiB, what must not be in it …]
  [`export {loraAdam} from 'tfjs-lora'`, 30, decompositions, otherMethods, entries],
  [`export {projected, dora} from 'tfjs-lora'`, 29.5, decompositions, entries],
  [`export {projected, galore} from 'tfjs-lora'`, 48.5, entries],
  [`export {loraAdam, audit} from 'tfjs-lora'`, 32.5, decompositions, otherMethods, /dist\/(adapter|resume)/],
  [
    `export {loraAdam, trainableGraphModel} from 'tfjs-lora'`,
    35.5,
    decompositions,
    otherMethods,
    /dist\/resume/,
  ],
  [`export * from 'tfjs-lora'`, 70.5, /dist\/(adapter\/(?!paths)|resume|wasm|testing|reference|cli)/],
  [
    `export {saveAdapter} from 'tfjs-lora/adapter'`,
    14.5,
    decompositions,
    methods,
    /dist\/(optimizer|telemetry)/,
  ],
  [`export {saveCheckpoint, loadCheckpoint} from 'tfjs-lora/adapter'`, 11, decompositions, methods],
  [`export {toPeft, fromPeft} from 'tfjs-lora/adapter'`, 19.5, decompositions, othersThanPeft],
  [`export {loadAdapter} from 'tfjs-lora/adapter'`, 47.5, /dist\/(optimizer|telemetry|resume)/],
  [`export * from 'tfjs-lora/adapter'`, 75, /dist\/(optimizer|telemetry)/],
  [`export {loraAdam} from 'tfjs-lora'; export {saveAdapter} from 'tfjs-lora/adapter'`, 42.5, decompositions],
  [`export {installWasmKernels} from 'tfjs-lora/wasm'`, 5.5, /dist\/(?!wasm)/],
  // No side effect but the registration in index.js: what is not used is dropped.
  [`export {cosine} from './dist/schedule.js'`, 1, /dist\/(?!schedule|options|recipe)/],
];

const failures = [];
for (const [contents, limit, ...unwanted] of cases) {
  const {outputFiles, metafile} = await build({
    stdin: {contents, resolveDir: root},
    bundle: true,
    minify: true,
    format: 'esm',
    write: false,
    metafile: true,
    external: ['@tensorflow/tfjs-core'],
    logLevel: 'error',
  });
  const size = compressed(outputFiles[0].text.replace(/import\{[^}]*\}from"@tensorflow\/tfjs-core";/g, ''));
  report(contents.replaceAll('export ', ''), size, limit);
  const [{inputs}] = Object.values(metafile.outputs);
  const there = Object.keys(inputs).filter(file => inputs[file].bytesInOutput > 0);
  for (const file of there.filter(file => unwanted.some(pattern => pattern.test(file)))) {
    failures.push(`${contents} brings ${file}`);
  }
}
report('the global tfLora', compressed(readFileSync(`${root}/dist/browser/tfjs-lora.js`)), 114);
for (const failure of failures) console.error(failure);
if (failures.length > 0) process.exit(1);

function compressed(text) {
  return gzipSync(text, {level: 9}).length / 1024;
}

function report(what, size, limit) {
  console.log(`${size.toFixed(1).padStart(6)} KiB (limit ${limit})  ${what}`);
  if (size > limit) failures.push(`${what} is larger than its limit`);
}

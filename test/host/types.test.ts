import {fileURLToPath} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import ts from 'typescript';
import {expect, it} from 'vitest';
import {loraAdam, projected, type ProjectedOptimizer} from '../../src/index.js';

/** A user's program, with everything that may clash with strict settings. */
const program = `
import * as tf from '@tensorflow/tfjs';
import {cosine, every, full, lora, loraAdam, projected, ProjectedOptimizer, type Parametrization} from '../../src/index.js';

const model = tf.sequential({layers: [tf.layers.dense({units: 4, inputShape: [8]})]});
model.compile({optimizer: loraAdam(1e-3, {rank: 1, targets: /kernel$/}), loss: 'meanSquaredError'});
const own: Parametrization<'scale'> = {
  name: 'own',
  init: ({weight}) => ({factors: {scale: tf.onesLike(weight)}, frozen: {start: tf.onesLike(weight)}}),
  compose: ({base, factors: {scale}}) => tf.mul(base, scale),
};
const optimizer: tf.Optimizer = projected(({factor}) => tf.train.sgd(factor === 'b' ? 0.1 : 0.01), own, {
  targets: [['a', lora({rank: 2})], [/b/, 'train'], [({shape}) => shape.length > 2, full()], [['x', 'y'], 'freeze']],
  learningRate: cosine(1e-3, {steps: 10}),
  refresh: every(200),
  moments: 'keep',
});
const adapted = optimizer as ProjectedOptimizer;
const cost: tf.Scalar | null = adapted.minimize(() => tf.scalar(1), true, []);
const saved: Awaited<ReturnType<tf.Optimizer['getWeights']>> = await adapted.getWeights();
await adapted.setWeights(saved);
// @ts-expect-error a learning rate is a number or a schedule
loraAdam('fast');
// @ts-expect-error no such option
loraAdam(1e-3, {ranks: 8});
export {cost};
`;

it.each([
  ['NodeNext', ts.ModuleKind.NodeNext, ts.ModuleResolutionKind.NodeNext],
  ['Bundler', ts.ModuleKind.ESNext, ts.ModuleResolutionKind.Bundler],
] as const)('C52 a strict program compiles, library checks included: %s', (_, module, moduleResolution) => {
  const file = fileURLToPath(new URL('./types-program.ts', import.meta.url));
  const options: ts.CompilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.dom.d.ts'],
    types: ['node'],
    module,
    moduleResolution,
  };
  const host = ts.createCompilerHost(options);
  const {getSourceFile, fileExists, readFile} = host;
  host.fileExists = name => name === file || fileExists(name);
  host.readFile = name => (name === file ? program : readFile(name));
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, program, rest[0]) : getSourceFile(name, ...rest);
  const found = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host));
  // tfjs's own declarations do not pass library checks with these settings; ours and the program must.
  const ours = found.filter(({file}) => !file?.fileName.includes('/node_modules/@tensorflow/'));
  expect(ts.formatDiagnostics(ours, {...host, getNewLine: () => '\n'})).toBe('');
});

it('C53 what tfjs does not export can be named through tf.Optimizer', () => {
  type Gradients = Parameters<tf.Optimizer['applyGradients']>[0];
  type Saved = Awaited<ReturnType<tf.Optimizer['getWeights']>>;
  const apply: (gradients: Gradients) => void = loraAdam(0.1).applyGradients;
  const read: () => Promise<Saved> = loraAdam(0.1).getWeights;
  const optimizer: ProjectedOptimizer = projected(tf.train.sgd(1), {
    name: 'own',
    init: ({weight}) => ({factors: {w: weight}}),
    compose: ({factors}) => factors['w']!,
  });
  expect([apply, read, optimizer].every(Boolean)).toBe(true);
});

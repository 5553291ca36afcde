/** Makes the small model that ships with the project: a byte-level transformer of English prose. */
import {existsSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {readArguments} from '../arguments.js';
import {chooseBackend} from '../backend.js';
import {expectWritable, saveModel} from '../files.js';
import {integerOption, textOption} from '../options.js';
import {duration, progressLine} from '../progress.js';
import {seededRandom} from '../random.js';
import {UsageError} from '../usage-error.js';
import {randomBatch} from './batch.js';
import {englishCorpus, leastEnglishBytes} from './corpus.js';
import {bitsPerByte} from './evaluate.js';
import {byteTransformer, contextLength, crossEntropy, trainableVariables} from './model.js';

export const pretrainHelp = `Usage: tfjs-lora pretrain [options]

Pre-trains a byte-level transformer on the English prose of the installed
packages' READMEs: half an hour on one core.

  --steps N        steps of ${8 * contextLength} bytes (2500)
  --seed N         seed of the weights and the batches (0)
  --out FOLDER     where the model is written (runs/pretrained)
  --force          replace a model that is there
  --backend NAME   tensorflow-gpu, tensorflow, webgpu, wasm or cpu (the first
                   that works)

Example:
  tfjs-lora pretrain --steps 500 --out runs/quick
`;

const batch = 8;
const peakRate = 2e-3;
const lastRate = 1e-4;
const warmup = 100;
const weightDecay = 0.1;
const clipNorm = 1;
const stepsBetweenEvaluations = 200;

/** The learning rate of a step, from 1: a linear rise, then half a cosine down. */
export function learningRate(step: number, steps: number): number {
  if (step <= warmup) return (peakRate * step) / warmup;
  const progress = (step - warmup) / Math.max(steps - warmup, 1);
  return lastRate + (peakRate - lastRate) * 0.5 * (1 + Math.cos(Math.PI * progress));
}

/** Runs `tfjs-lora pretrain`. */
export async function pretrain(args: string[]): Promise<void> {
  const given = readArguments(args, {
    ...{steps: 'value', seed: 'value', out: 'value', force: 'flag', backend: 'value', help: 'flag'},
  } as const);
  if (given.help) {
    process.stdout.write(pretrainHelp);
    return;
  }
  const steps = integerOption('--steps', given.steps ?? '2500', 1);
  const seed = integerOption('--seed', given.seed ?? '0', 0);
  const out = textOption('--out', given.out ?? join('runs', 'pretrained'));
  if (existsSync(join(out, 'model.json')) && !given.force) {
    throw new UsageError(`${out} holds a model already: --force replaces it, --out takes another folder`);
  }
  const {name: backend} = await chooseBackend(given.backend);
  const corpus = englishCorpus();
  if (corpus.heldOut.length < leastEnglishBytes) {
    throw new UsageError(
      `too little English: ${corpus.heldOut.length} bytes to hold out in the installed packages' READMEs, ` +
        `${leastEnglishBytes} needed`,
    );
  }
  expectWritable(out);
  const model = byteTransformer({seed});
  console.error(
    `${model.countParams()} weights, ${corpus.train.length} bytes of English, ` +
      `${corpus.heldOut.length} held out, on ${backend}`,
  );

  const variables = trainableVariables(model);
  const optimizer = tf.train.adam(peakRate, 0.9, 0.99, 1e-7);
  const random = seededRandom(seed);
  const progress = progressLine();
  const started = performance.now();
  let best = Infinity;
  for (let step = 1; step <= steps; step++) {
    const rate = learningRate(step, steps);
    (optimizer as unknown as {learningRate: number}).learningRate = rate;
    const {bytes, next} = randomBatch(corpus.train, batch, contextLength, random);
    const loss = trainStep(model, variables, optimizer, bytes, next, rate);
    const bits = (await loss.data())[0]! / Math.LN2;
    tf.dispose([bytes, next, loss]);
    progress.update({step, steps, loss: bits, tokens: batch * contextLength});
    if (step % stepsBetweenEvaluations !== 0 && step !== steps) continue;

    const heldOut = await bitsPerByte(model, corpus.heldOut, {windows: Infinity});
    progress.end();
    console.error(`step ${step}: ${heldOut.toFixed(4)} bits per byte on held-out English`);
    if (heldOut >= best) continue;
    best = heldOut;
    const facts = {
      heldOutBitsPerByte: heldOut,
      step,
      steps,
      seed,
      bytesPerStep: batch * contextLength,
      trainBytes: corpus.train.length,
      heldOutBytes: corpus.heldOut.length,
      weights: model.countParams(),
      minutes: Number(((performance.now() - started) / 60_000).toFixed(1)),
      backend,
      versions: {tfjs: tf.version.tfjs, node: process.versions.node},
    };
    await saveModel(model, out, {'pretraining.json': JSON.stringify(facts, null, 2) + '\n'});
  }
  const took = duration((performance.now() - started) / 1000);
  console.error(`${best.toFixed(4)} bits per byte on held-out English after ${took}: ${out}`);
}

/** One step of Adam with the gradient clipped by its norm and decoupled decay of the matrices; the loss. */
function trainStep(
  model: tf.LayersModel,
  variables: tf.Variable[],
  optimizer: tf.Optimizer,
  bytes: tf.Tensor,
  next: tf.Tensor,
  rate: number,
): tf.Scalar {
  return tf.tidy(() => {
    const loss = () => crossEntropy(next, model.apply(bytes, {training: true}) as tf.Tensor);
    const {value, grads} = tf.variableGrads(loss, variables);
    const squares = Object.values(grads).map(grad => grad.square().sum());
    const norm = tf.addN(squares).sqrt();
    const scale = tf.div(clipNorm, norm.maximum(clipNorm));
    for (const name of Object.keys(grads)) grads[name] = grads[name]!.mul(scale);
    for (const variable of variables) {
      if (variable.rank >= 2) variable.assign(variable.mul(1 - rate * weightDecay));
    }
    optimizer.applyGradients(grads);
    return value as tf.Scalar;
  });
}

/** A small causal transformer over bytes, as an ordinary layers model. */
import {setImmediate} from 'node:timers/promises';
import * as tf from '@tensorflow/tfjs';
import {seededRandom} from '../random.js';

/** The number of different bytes. */
const vocabulary = 256;

/** The longest stretch of bytes the model sees. */
export const contextLength = 128;

export interface ByteTransformerOptions {
  /** Longest input, in bytes (128). */
  context?: number;
  /** Width of the residual stream (128); a multiple of `heads`. */
  width?: number;
  /** Number of blocks (4). */
  blocks?: number;
  /** Attention heads in a block (4). */
  heads?: number;
  /** Seed of the initial weights (0). */
  seed?: number;
}

/**
 * Rows of a kernel [vocabulary, width] picked by the input, bytes [batch, time]; result [batch, time, width].
 * Written as a product with one-hot vectors, because wasm has no gradient kernel for gather.
 */
class ByteEmbedding extends tf.layers.Layer {
  static className = 'ByteEmbedding';
  private readonly width: number;
  private readonly initializer: ReturnType<typeof normal>;

  constructor(config: {width: number; initializer?: ReturnType<typeof normal>; name?: string}) {
    super(config as object);
    this.width = config.width;
    this.initializer = config.initializer ?? normal(0.02, 1);
  }

  override build(): void {
    this.addWeight('kernel', [vocabulary, this.width], 'float32', this.initializer);
    this.built = true;
  }

  override computeOutputShape(inputShape: tf.Shape | tf.Shape[]): tf.Shape {
    return [...(inputShape as tf.Shape), this.width];
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const bytes = single(inputs);
      const oneHot = tf.oneHot(bytes.flatten().toInt(), vocabulary).toFloat();
      const rows = tf.matMul(oneHot, this.weights[0]!.read() as tf.Tensor2D);
      return rows.reshape([...bytes.shape, this.width]);
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), width: this.width};
  }
}

/** Adds a learned vector for each position to its input [batch, time, width], time <= context. */
class PositionEmbedding extends tf.layers.Layer {
  static className = 'PositionEmbedding';
  private readonly context: number;
  private readonly initializer: ReturnType<typeof normal>;

  constructor(config: {context: number; initializer?: ReturnType<typeof normal>; name?: string}) {
    super(config as object);
    this.context = config.context;
    this.initializer = config.initializer ?? normal(0.02, 1);
  }

  override build(inputShape: tf.Shape | tf.Shape[]): void {
    const width = (inputShape as tf.Shape).at(-1)!;
    this.addWeight('kernel', [this.context, width], 'float32', this.initializer);
    this.built = true;
  }

  override computeOutputShape(inputShape: tf.Shape | tf.Shape[]): tf.Shape {
    return inputShape as tf.Shape;
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = single(inputs);
      const positions = this.weights[0]!.read().slice([0, 0], [x.shape[1]!, -1]);
      return x.add(positions);
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), context: this.context};
  }
}

/**
 * Replaces the first half of each position's features by those of the position before: [batch, time, width]
 * to the same. It shows every block pairs of neighbours, which attention alone learns only slowly.
 */
class TokenShift extends tf.layers.Layer {
  static className = 'TokenShift';

  constructor(config: {name?: string} = {}) {
    super(config as object);
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = single(inputs) as tf.Tensor3D;
      const width = x.shape[2];
      const firstHalf = tf
        .range(0, width)
        .less(width / 2)
        .toFloat();
      const before = x
        .pad([
          [0, 0],
          [1, 0],
          [0, 0],
        ])
        .slice([0, 0, 0], x.shape);
      return before.mul(firstHalf).add(x.mul(tf.sub(1, firstHalf)));
    });
  }
}

/** Multi-head attention of [query, key, value], each [batch, time, width], to bytes not after its own. */
class CausalAttention extends tf.layers.Layer {
  static className = 'CausalAttention';
  private readonly heads: number;

  constructor(config: {heads: number; name?: string}) {
    super(config as object);
    this.heads = config.heads;
  }

  override computeOutputShape(inputShape: tf.Shape | tf.Shape[]): tf.Shape {
    return (inputShape as tf.Shape[])[0]!;
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const [batch, time, width] = (inputs as tf.Tensor[])[0]!.shape as [number, number, number];
      const perHead = width / this.heads;
      const [query, key, value] = (inputs as tf.Tensor[]).map(x =>
        x.reshape([batch, time, this.heads, perHead]).transpose([0, 2, 1, 3]),
      ) as [tf.Tensor, tf.Tensor, tf.Tensor];
      const scores = tf.matMul(query.mul(1 / Math.sqrt(perHead)), key, false, true);
      const shares = tf.softmax(scores.add(causalMask(time)));
      return tf.matMul(shares, value).transpose([0, 2, 1, 3]).reshape([batch, time, width]);
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), heads: this.heads};
  }
}

/**
 * Layer normalization over the last axis. tfjs's own layer tiles its statistics, and the gradient of tile
 * runs one slice for each row: 20 000 kernels a step in this model.
 */
class LayerNorm extends tf.layers.Layer {
  static className = 'LayerNorm';

  constructor(config: {name?: string} = {}) {
    super(config as object);
  }

  override build(inputShape: tf.Shape | tf.Shape[]): void {
    const width = (inputShape as tf.Shape).at(-1)!;
    this.addWeight('gamma', [width], 'float32', tf.initializers.ones());
    this.addWeight('beta', [width], 'float32', tf.initializers.zeros());
    this.built = true;
  }

  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.tidy(() => {
      const x = single(inputs);
      const [gamma, beta] = this.weights.map(weight => weight.read()) as [tf.Tensor, tf.Tensor];
      const centered = x.sub(x.mean(-1, true));
      const variance = centered.square().mean(-1, true);
      return centered.mul(variance.add(1e-5).rsqrt()).mul(gamma).add(beta);
    });
  }
}

for (const layer of [ByteEmbedding, PositionEmbedding, LayerNorm, TokenShift, CausalAttention]) {
  tf.serialization.registerClass(
    layer as unknown as tf.serialization.SerializableConstructor<tf.layers.Layer>,
  );
}

/** [time, time]: 0 where a row may look, a large negative number in the columns after it. */
function causalMask(time: number): tf.Tensor2D {
  const mask = new Float32Array(time * time);
  for (let row = 0; row < time; row++) mask.fill(-1e9, row * time + row + 1, (row + 1) * time);
  return tf.tensor2d(mask, [time, time]);
}

function single(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
  return Array.isArray(inputs) ? inputs[0]! : inputs;
}

function normal(stddev: number, seed: number) {
  return tf.initializers.randomNormal({stddev, seed});
}

/**
 * A byte-level transformer: pre-norm blocks of causal attention and a relu MLP four times as wide, learned
 * positions, an output projection of its own (not tied to the embedding). About 0.87 million weights.
 * Kernels are [in, out] matrices with names such as `block0/attention/query/kernel`.
 *
 * @returns a model from bytes [batch, time] (int32, time <= context) to logits [batch, time, 256]
 */
export function byteTransformer({
  context = contextLength,
  width = 128,
  blocks = 4,
  heads = 4,
  seed = 0,
}: ByteTransformerOptions = {}): tf.LayersModel {
  // tfjs takes a seed of 0 for no seed.
  let weights = seed * 1000;
  const initial = (stddev: number) => normal(stddev, ++weights);
  const dense = (name: string, units: number, inputs: number, scale = 1) =>
    tf.layers.dense({name, units, kernelInitializer: initial(scale / Math.sqrt(inputs))});
  const normed = (name: string, x: tf.SymbolicTensor) => {
    const normal = new LayerNorm({name: `${name}/norm`}).apply(x);
    return new TokenShift({name: `${name}/shift`}).apply(normal) as tf.SymbolicTensor;
  };
  const add = (name: string, a: tf.SymbolicTensor, b: tf.SymbolicTensor) =>
    tf.layers.add({name}).apply([a, b]) as tf.SymbolicTensor;

  const bytes = tf.input({shape: [null], dtype: 'int32', name: 'bytes'});
  const tokens = new ByteEmbedding({name: 'embedding/token', width, initializer: initial(0.5)});
  const positions = new PositionEmbedding({name: 'embedding/position', context, initializer: initial(0.2)});
  let x = positions.apply(tokens.apply(bytes)) as tf.SymbolicTensor;
  // Keeps the residual stream's variance from growing with depth.
  const residualScale = 1 / Math.sqrt(2 * blocks);
  for (let i = 0; i < blocks; i++) {
    const at = (name: string) => `block${i}/${name}`;
    const seen = normed(at('attention'), x);
    const [query, key, value] = ['query', 'key', 'value'].map(
      name => dense(at(`attention/${name}`), width, width).apply(seen) as tf.SymbolicTensor,
    ) as [tf.SymbolicTensor, tf.SymbolicTensor, tf.SymbolicTensor];
    const attention = new CausalAttention({name: at('attention/heads'), heads});
    const mixed = attention.apply([query, key, value]) as tf.SymbolicTensor;
    const attended = dense(at('attention/out'), width, width, residualScale).apply(
      mixed,
    ) as tf.SymbolicTensor;
    x = add(at('attention/add'), x, attended);

    const up = dense(at('mlp/up'), 4 * width, width, Math.SQRT2).apply(
      normed(at('mlp'), x),
    ) as tf.SymbolicTensor;
    const active = tf.layers.reLU({name: at('mlp/relu')}).apply(up) as tf.SymbolicTensor;
    const down = dense(at('mlp/down'), width, 4 * width, residualScale).apply(active) as tf.SymbolicTensor;
    x = add(at('mlp/add'), x, down);
  }
  const last = new LayerNorm({name: 'output/norm'}).apply(x) as tf.SymbolicTensor;
  const logits = dense('output/logits', vocabulary, width, 0.5).apply(last) as tf.SymbolicTensor;
  return tf.model({name: 'byte-lm', inputs: bytes, outputs: logits});
}

/**
 * The mean cross-entropy of predicting each byte, in nats (divide by ln 2 for bits per byte).
 * @param labels the right bytes, int32 [batch, time]
 * @param logits [batch, time, 256]
 */
export function crossEntropy(labels: tf.Tensor, logits: tf.Tensor): tf.Scalar {
  return tf.tidy(() => {
    const oneHot = tf.oneHot(labels.flatten().toInt(), vocabulary).toFloat();
    return tf.losses.softmaxCrossEntropy(oneHot, logits.reshape([-1, vocabulary]));
  });
}

/** The variables a model trains, in the model's order. */
export function trainableVariables(model: tf.LayersModel): tf.Variable[] {
  return model.trainableWeights.map(weight => weight.read() as tf.Variable);
}

export interface GenerateOptions {
  /** How many bytes to write (200). */
  bytes?: number;
  /** Below 1 safer, above 1 wilder; 0 always takes the likeliest byte (0.8). */
  temperature?: number;
  seed?: number;
  /** The longest stretch of bytes the model sees (128). */
  context?: number;
  /** Ends it by an AbortError when it is aborted. */
  signal?: AbortSignal;
}

/**
 * Continues a prompt byte by byte. The same options give the same text.
 * @returns the prompt and its continuation; bytes that are not UTF-8 become U+FFFD
 */
export async function generate(
  model: tf.LayersModel,
  prompt: string,
  {bytes = 200, temperature = 0.8, seed = 0, context = contextLength, signal}: GenerateOptions = {},
): Promise<string> {
  const random = seededRandom(seed);
  const text = [...new TextEncoder().encode(prompt || '\n')];
  for (let i = 0; i < bytes; i++) {
    const seen = text.slice(-context);
    const logits = tf.tidy(() => {
      const all = model.apply(tf.tensor2d(seen, [1, seen.length], 'int32')) as tf.Tensor3D;
      return all.slice([0, seen.length - 1, 0], [1, 1, vocabulary]).flatten();
    });
    const values = await logits.data();
    logits.dispose();
    text.push(sample(values, temperature, random()));
    await setImmediate();
    signal?.throwIfAborted();
  }
  return new TextDecoder().decode(Uint8Array.from(text)).slice(prompt === '' ? 1 : 0);
}

/** The byte at `uniform` (in [0, 1)) of the cumulative softmax of logits / temperature. */
function sample(logits: ArrayLike<number>, temperature: number, uniform: number): number {
  const values = Array.from(logits);
  const largest = Math.max(...values);
  if (temperature <= 0) return values.indexOf(largest);
  const weights = values.map(value => Math.exp((value - largest) / temperature));
  let left = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  const index = weights.findIndex(weight => (left -= weight) < 0);
  return index < 0 ? values.indexOf(largest) : index;
}

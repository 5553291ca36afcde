import * as tf from '@tensorflow/tfjs';
import {normal} from '../../src/random.js';

type Attribute = Record<string, unknown>;
type Quantization = NonNullable<tf.io.WeightsManifestEntry['quantization']>;

const text = (s: string) => Buffer.from(s).toString('base64');

/** Attributes of a GraphDef in JSON. */
export const attr = {
  bool: (b: boolean): Attribute => ({b}),
  int: (i: number): Attribute => ({i}),
  float: (f: number): Attribute => ({f}),
  string: (s: string): Attribute => ({s: text(s)}),
  strings: (...s: string[]): Attribute => ({list: {s: s.map(text)}}),
  ints: (...i: number[]): Attribute => ({list: {i}}),
  func: (name: string): Attribute => ({func: {name}}),
  type: (name: string): Attribute => ({type: `DT_${name}`}),
  shape: (shape: readonly number[]): Attribute => ({shape: {dim: shape.map(size => ({size}))}}),
};

/** A frozen graph made by hand, as the converter writes one. Every method returns the name of its node. */
export class Graph {
  private readonly nodes: object[] = [];
  private readonly specs: tf.io.WeightsManifestEntry[] = [];
  private readonly data: ArrayBuffer[] = [];
  private readonly functions: object[] = [];

  /** The converter lets constants wait for the first input. */
  private readonly control: string[] = [];

  input(name: string, shape: readonly number[], dtype = 'FLOAT'): string {
    if (this.control.length === 0) this.control.push(`^${name}`);
    return this.node('Placeholder', name, [], {dtype: attr.type(dtype), shape: attr.shape(shape)});
  }

  node(
    op: string,
    name: string,
    input: readonly string[] = [],
    attributes: Record<string, Attribute> = {},
  ): string {
    this.nodes.push({name, op, input, attr: attributes});
    return name;
  }

  /** A weight of numbers from a normal distribution, times `scale`, plus `offset`. */
  weight(
    name: string,
    shape: number[],
    seed: number,
    {scale = 0.5, offset = 0, as = 'float32' as string} = {},
  ): string {
    const numbers = tf.tidy(() => normal([1, Math.max(1, tf.util.sizeFromShape(shape))], seed).dataSync());
    const values = Float32Array.from(numbers, x => x * scale + offset);
    if (as === 'float32') return this.constant(name, shape, values);
    if (as === 'float16')
      return this.constant(name, shape, Uint16Array.from(values, half), {dtype: 'float16'});
    const [min, max] = [Math.min(...values), Math.max(...values)];
    const quantization: Quantization = {dtype: 'uint8', min, scale: (max - min) / 255};
    const bytes = Uint8Array.from(values, x => Math.round((x - min) / quantization.scale!));
    return this.constant(name, shape, bytes, quantization);
  }

  constant(
    name: string,
    shape: number[],
    values: Float32Array | Int32Array | Uint8Array | Uint16Array,
    quantization?: Quantization,
  ): string {
    this.values(name, shape, values, quantization);
    return this.node('Const', name, this.control, {
      dtype: attr.type(values instanceof Int32Array ? 'INT32' : 'FLOAT'),
    });
  }

  /** A weight whose node is in a function. */
  values(
    name: string,
    shape: number[],
    values: Float32Array | Int32Array | Uint8Array | Uint16Array,
    quantization?: Quantization,
  ): void {
    const dtype = values instanceof Int32Array ? 'int32' : 'float32';
    this.specs.push({name, shape, dtype, ...(quantization && {quantization})});
    this.data.push(values.slice().buffer as ArrayBuffer);
  }

  ints(name: string, ...values: number[]): string {
    return this.constant(name, [values.length], Int32Array.from(values));
  }

  int(name: string, value: number): string {
    return this.constant(name, [], Int32Array.of(value));
  }

  /** Strings among the weights that no node uses, so that bytes have to be counted past them. */
  strings(name: string, ...values: string[]): void {
    this.specs.push({name, shape: [values.length], dtype: 'string'});
    const bytes = values.flatMap(value => {
      const own = Buffer.from(value);
      return [...new Uint8Array(Uint32Array.of(own.length).buffer), ...own];
    });
    this.data.push(Uint8Array.from(bytes).buffer as ArrayBuffer);
  }

  func(definition: object): void {
    this.functions.push(definition);
  }

  artifacts(signature?: {
    inputs: Record<string, string>;
    outputs: Record<string, string>;
  }): tf.io.ModelArtifacts {
    const entries = (of: Record<string, string>) =>
      Object.fromEntries(
        Object.entries(of).map(([key, name]) => [key, {name: `${name}:0`, dtype: 'DT_FLOAT'}]),
      );
    return {
      format: 'graph-model',
      generatedBy: 'test',
      convertedBy: 'by hand',
      modelTopology: {
        node: this.nodes,
        versions: {producer: 440},
        ...(this.functions.length > 0 && {library: {function: this.functions}}),
      },
      weightSpecs: this.specs,
      weightData: tf.io.CompositeArrayBuffer.join(this.data),
      ...(signature && {signature: {inputs: entries(signature.inputs), outputs: entries(signature.outputs)}}),
    };
  }

  load(signature?: {
    inputs: Record<string, string>;
    outputs: Record<string, string>;
  }): Promise<tf.GraphModel> {
    return tf.loadGraphModel(tf.io.fromMemory(this.artifacts(signature)));
  }
}

/** The bits of a number in float16, for normal numbers; the rest of the mantissa is cut off. */
function half(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  return exponent <= 0 ? 0 : ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}

const nhwc = (stride = 1, dilation = 1) => ({
  strides: attr.ints(1, stride, stride, 1),
  dilations: attr.ints(1, dilation, dilation, 1),
  padding: attr.string('SAME'),
  data_format: attr.string('NHWC'),
});

/** x [?, 6] -> fused matmul 8 with relu -> matmul 7, bias, tanh -> fused 3, linear. Names as a SavedModel has them. */
export function mlp({as = 'float32', activation = 'Relu'} = {}): Graph {
  const graph = new Graph();
  const dense = (layer: string, part: string) => `StatefulPartitionedCall/model/${layer}/${part}`;
  graph.input('x', [-1, 6]);
  graph.strings('vocabulary', 'some', 'ünïcode', '');
  graph.weight(dense('hidden', 'MatMul/ReadVariableOp'), [6, 8], 1, {as});
  graph.weight(dense('hidden', 'BiasAdd/ReadVariableOp'), [8], 2);
  graph.weight(dense('middle', 'MatMul/ReadVariableOp'), [8, 7], 3, {as});
  graph.weight(dense('middle', 'BiasAdd/ReadVariableOp'), [7], 4, {as});
  graph.weight(dense('out', 'MatMul/ReadVariableOp'), [7, 3], 5);
  graph.weight(dense('out', 'BiasAdd/ReadVariableOp'), [3], 6);
  const weights = (layer: string) => [
    dense(layer, 'MatMul/ReadVariableOp'),
    dense(layer, 'BiasAdd/ReadVariableOp'),
  ];
  graph.node('_FusedMatMul', dense('hidden', 'Relu'), ['x', ...weights('hidden')], {
    fused_ops: attr.strings('BiasAdd', activation),
    num_args: attr.int(1),
    leakyrelu_alpha: attr.float(0.1),
  });
  const [kernel, bias] = weights('middle');
  graph.node('MatMul', dense('middle', 'MatMul'), [dense('hidden', 'Relu'), kernel!]);
  graph.node('BiasAdd', dense('middle', 'BiasAdd'), [dense('middle', 'MatMul'), bias!]);
  graph.node('Tanh', dense('middle', 'Tanh'), [dense('middle', 'BiasAdd')]);
  graph.node('_FusedMatMul', dense('out', 'BiasAdd'), [dense('middle', 'Tanh'), ...weights('out')], {
    fused_ops: attr.strings('BiasAdd'),
    num_args: attr.int(1),
  });
  graph.node('Identity', 'Identity', [dense('out', 'BiasAdd')]);
  return graph;
}

/**
 * x [?, 6, 6, 2] -> fused conv 4 with relu6 -> depthwise with bias, as folded from a batch norm -> conv 3, bias, batch
 * norm, relu -> mean over places -> matmul 2.
 */
export function convnet({activation = 'Relu6', dilation = 1} = {}): Graph {
  const graph = new Graph();
  graph.input('x', [-1, 6, 6, 2]);
  graph.weight('conv1/Conv2D_weights', [3, 3, 2, 4], 11);
  graph.weight('conv1/Conv2D_bn_offset', [4], 12);
  graph.node('_FusedConv2D', 'conv1/Relu6', ['x', 'conv1/Conv2D_weights', 'conv1/Conv2D_bn_offset'], {
    ...nhwc(),
    fused_ops: attr.strings('BiasAdd', activation),
    num_args: attr.int(1),
    leakyrelu_alpha: attr.float(0.1),
  });
  graph.weight('conv2/depthwise_weights', [3, 3, 4, 1], 13);
  graph.weight('conv2/depthwise_bn_offset', [4], 14);
  graph.node(
    'FusedDepthwiseConv2dNative',
    'conv2/BiasAdd',
    ['conv1/Relu6', 'conv2/depthwise_weights', 'conv2/depthwise_bn_offset'],
    {...nhwc(), fused_ops: attr.strings('BiasAdd'), num_args: attr.int(1)},
  );
  graph.weight('conv3/kernel', [1, 1, 4, 5], 15);
  graph.node('Conv2D', 'conv3/Conv2D', ['conv2/BiasAdd', 'conv3/kernel'], nhwc(1, dilation));
  graph.weight('conv3/bias', [5], 16);
  graph.node('BiasAdd', 'conv3/BiasAdd', ['conv3/Conv2D', 'conv3/bias']);
  graph.weight('bn/gamma', [5], 17, {offset: 1});
  graph.weight('bn/beta', [5], 18);
  graph.weight('bn/mean', [5], 19);
  graph.constant('bn/variance', [5], Float32Array.of(1, 2, 0.5, 1.5, 0.7));
  graph.node(
    'FusedBatchNormV3',
    'bn/FusedBatchNormV3',
    ['conv3/BiasAdd', 'bn/gamma', 'bn/beta', 'bn/mean', 'bn/variance'],
    {
      epsilon: attr.float(1e-3),
      data_format: attr.string('NHWC'),
      is_training: attr.bool(false),
    },
  );
  graph.node('Relu', 'bn/Relu', ['bn/FusedBatchNormV3']);
  graph.ints('pool/axes', 1, 2);
  graph.node('Mean', 'pool/Mean', ['bn/Relu', 'pool/axes']);
  graph.weight('head/kernel', [5, 2], 20);
  graph.node('MatMul', 'head/MatMul', ['pool/Mean', 'head/kernel']);
  return graph;
}

/** ids [?, 4] -> table 9 x 5 -> positions added -> one head of attention, scores by `scores` -> matmul 3. */
export function attention(scores: 'BatchMatMulV2' | 'Einsum' = 'BatchMatMulV2'): Graph {
  const graph = new Graph();
  graph.input('ids', [-1, 4], 'INT32');
  graph.weight('embed/table', [9, 5], 21);
  graph.int('embed/axis', 0);
  graph.node('GatherV2', 'embed/GatherV2', ['embed/table', 'ids', 'embed/axis']);
  graph.weight('positions', [1, 4, 5], 22);
  graph.node('AddV2', 'embed/add', ['embed/GatherV2', 'positions']);
  graph.ints('flat', -1, 5);
  graph.ints('tokens', -1, 4, 6);
  graph.node('Reshape', 'attention/flat', ['embed/add', 'flat']);
  for (const [i, part] of ['query', 'key', 'value'].entries()) {
    graph.weight(`attention/${part}/kernel`, [5, 6], 23 + i);
    graph.node('MatMul', `attention/${part}/MatMul`, ['attention/flat', `attention/${part}/kernel`]);
    graph.node('Reshape', `attention/${part}`, [`attention/${part}/MatMul`, 'tokens']);
  }
  if (scores === 'Einsum') {
    graph.node('Einsum', 'attention/scores', ['attention/query', 'attention/key'], {
      equation: attr.string('bqd,bkd->bqk'),
      N: attr.int(2),
    });
  } else {
    graph.node('BatchMatMulV2', 'attention/scores', ['attention/query', 'attention/key'], {
      adj_y: attr.bool(true),
    });
  }
  graph.constant('attention/scale', [], Float32Array.of(0.4));
  graph.node('Mul', 'attention/scaled', ['attention/scores', 'attention/scale']);
  graph.node('Softmax', 'attention/Softmax', ['attention/scaled']);
  graph.node('BatchMatMulV2', 'attention/context', ['attention/Softmax', 'attention/value']);
  graph.int('pool/axis', 1);
  graph.node('Mean', 'pool/Mean', ['attention/context', 'pool/axis']);
  graph.weight('head/kernel', [6, 3], 30);
  graph.node('MatMul', 'head/MatMul', ['pool/Mean', 'head/kernel']);
  return graph;
}

/** x [?, 4] -> matmul 4, doubled while its sum is small, in functions -> matmul 2. */
export function loop(): Graph {
  const graph = new Graph();
  graph.input('x', [-1, 4]);
  graph.weight('first/kernel', [4, 4], 41);
  graph.node('MatMul', 'first/MatMul', ['x', 'first/kernel']);
  graph.node('StatelessWhile', 'while', ['first/MatMul'], {cond: attr.func('cond'), body: attr.func('body')});
  graph.node('Identity', 'state', ['while']);
  graph.weight('last/kernel', [4, 2], 42);
  graph.node('MatMul', 'last/MatMul', ['state', 'last/kernel']);
  graph.values('cond/limit', [], Float32Array.of(1000));
  graph.values('cond/axes', [2], Int32Array.of(0, 1));
  const named = (name: string, op: string, input: string[], attributes = {}) => ({
    name,
    op,
    input,
    attr: attributes,
  });
  const signature = (name: string, type: string) => ({
    name,
    inputArg: [{name: 'value', type: 'DT_FLOAT'}],
    outputArg: [{name: 'result', type}],
  });
  graph.func({
    signature: signature('cond', 'DT_BOOL'),
    nodeDef: [
      named('cond/limit', 'Const', [], {dtype: attr.type('FLOAT')}),
      named('cond/axes', 'Const', [], {dtype: attr.type('INT32')}),
      named('square', 'Square', ['value']),
      named('sum', 'Sum', ['square', 'cond/axes']),
      named('less', 'Less', ['sum', 'cond/limit']),
    ],
    ret: {result: 'less:z:0'},
  });
  graph.func({
    signature: signature('body', 'DT_FLOAT'),
    nodeDef: [named('twice', 'AddV2', ['value', 'value'])],
    ret: {result: 'twice:z:0'},
  });
  return graph;
}

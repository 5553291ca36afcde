import * as tf from '@tensorflow/tfjs';
import {afterEach, expect, test, vi} from 'vitest';
import {adapterOf, mergeAdapter} from '../../src/adapter/index.js';
import {namedWeights} from '../../src/adapter/paths.js';
import {lora, loraAdam, loraSgd, normal} from '../../src/index.js';
import {trainableGraphModel, type TrainableGraphModel} from '../../src/models/trainable-graph-model.js';
import {expectClose, numTensors, values} from '../helpers.js';
import {onEachBackend} from '../host/backends.js';
import {attention, convnet, Graph, loop, mlp} from './graph.js';

afterEach(() => vi.restoreAllMocks());

type Weights = Readonly<Record<string, tf.Variable>>;

/** A graph, and the same computation written by hand. */
interface Case {
  readonly graph: () => Graph;
  readonly x: () => tf.Tensor;
  readonly byHand: (w: Weights, x: tf.Tensor) => tf.Tensor;
  readonly paths: readonly string[];
  /** Paths of the weights whose gradient arrives as an operator. */
  readonly factored: readonly string[];
}

const norm = (x: tf.Tensor, w: Weights) => {
  const variance = tf.tensor1d([1, 2, 0.5, 1.5, 0.7]);
  const mean = tf.tidy(() => tf.mul(normal([1, 5], 19), 0.5).flatten());
  return tf.batchNorm(
    x as tf.Tensor4D,
    mean as tf.Tensor1D,
    variance,
    w['bn/beta']! as tf.Tensor1D,
    w['bn/gamma']! as tf.Tensor1D,
    1e-3,
  );
};

const CASES: Readonly<Record<string, Case>> = {
  mlp: {
    graph: () => mlp(),
    x: () => normal([5, 6], 91),
    byHand: (w, x) => {
      const dense = (layer: string, input: tf.Tensor) =>
        tf.add(tf.matMul(input, w[`model/${layer}/MatMul`]!), w[`model/${layer}/BiasAdd`]!);
      return dense('out', tf.tanh(dense('middle', tf.relu(dense('hidden', x)))));
    },
    paths: ['hidden', 'middle', 'out'].flatMap(layer => [`model/${layer}/MatMul`, `model/${layer}/BiasAdd`]),
    factored: ['model/hidden/MatMul', 'model/middle/MatMul', 'model/out/MatMul'],
  },
  convnet: {
    graph: () => convnet(),
    x: () => normal([3 * 6, 6 * 2], 92).reshape([3, 6, 6, 2]),
    byHand: (w, x) => {
      const of = (name: string) => w[name] as tf.Tensor as tf.Tensor4D;
      const first = tf.relu6(
        tf.add(
          tf.conv2d(x as tf.Tensor4D, of('conv1/Conv2D_weights'), 1, 'same'),
          of('conv1/Conv2D_bn_offset'),
        ),
      );
      const second = tf.add(
        tf.depthwiseConv2d(first as tf.Tensor4D, of('conv2/depthwise_weights'), 1, 'same'),
        of('conv2/depthwise_bn_offset'),
      );
      const third = tf.add(tf.conv2d(second as tf.Tensor4D, of('conv3/kernel'), 1, 'same'), of('conv3/bias'));
      return tf.matMul(tf.mean(tf.relu(norm(third, w)), [1, 2]), w['head/kernel']!);
    },
    // prettier-ignore
    paths: [
      'conv1/Conv2D_weights', 'conv1/Conv2D_bn_offset', 'conv2/depthwise_weights', 'conv2/depthwise_bn_offset',
      'conv3/kernel', 'conv3/bias', 'bn/gamma', 'bn/beta', 'head/kernel',
    ],
    factored: ['conv1/Conv2D_weights', 'conv3/kernel', 'head/kernel'],
  },
  attention: {
    graph: () => attention(),
    x: () => tf.tensor2d([1, 2, 3, 3, 8, 0, 1, 7], [2, 4], 'int32'),
    byHand: (w, ids) => {
      const embedded = tf.add(tf.gather(w['embed/table']!, ids as tf.Tensor2D), w['positions']!);
      const part = (name: string) =>
        tf.matMul(embedded.reshape([-1, 5]), w[`attention/${name}/kernel`]!).reshape([-1, 4, 6]);
      const scores = tf.mul(tf.matMul(part('query'), part('key'), false, true), 0.4);
      return tf.matMul(tf.mean(tf.matMul(tf.softmax(scores), part('value')), 1), w['head/kernel']!);
    },
    // prettier-ignore
    paths: [
      'embed/table', 'positions', 'attention/query/kernel', 'attention/key/kernel', 'attention/value/kernel',
      'head/kernel',
    ],
    // prettier-ignore
    factored: ['embed/table', 'attention/query/kernel', 'attention/key/kernel', 'attention/value/kernel', 'head/kernel'],
  },
};

const SIGNATURES: Readonly<
  Record<string, {inputs: Record<string, string>; outputs: Record<string, string>}>
> = {
  mlp: {inputs: {features: 'x'}, outputs: {logits: 'Identity'}},
  convnet: {inputs: {image: 'x'}, outputs: {logits: 'head/MatMul'}},
  attention: {inputs: {tokens: 'ids'}, outputs: {logits: 'head/MatMul'}},
};

const list = (weights: Weights) => Object.values(weights);
const towards = (y: tf.Tensor): tf.Scalar => tf.mean(tf.square(tf.sub(y, 1)));
const predicted = (model: tf.GraphModel, x: tf.Tensor) =>
  tf.tidy(() => values(model.predict(x) as tf.Tensor));
const copies = (weights: Weights): Weights =>
  Object.fromEntries(
    Object.entries(weights).map(([path, w]) => [path, tf.variable(w.clone(), true, `${w.name}_1`)]),
  );

async function saved(trainable: TrainableGraphModel): Promise<tf.io.ModelArtifacts> {
  let artifacts: tf.io.ModelArtifacts | undefined;
  await trainable.save(
    tf.io.withSaveHandler(async given => {
      artifacts = given;
      return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(given)};
    }),
  );
  return artifacts!;
}

onEachBackend('a trainable GraphModel', backend => {
  for (const [name, {graph, x, byHand, paths, factored}] of Object.entries(CASES)) {
    for (const signature of [undefined, SIGNATURES[name]]) {
      const title = `${name}, ${signature ? 'with' : 'without'} a signature`;

      test(`${title}: wrapped and restored it predicts what it did, bit by bit, and nothing is left`, async () => {
        const model = await graph().load(signature);
        const input = x();
        const before = predicted(model, input);
        const tensors = numTensors();
        const trainable = trainableGraphModel(model);
        expect(Object.keys(trainable.variables)).toEqual(paths);
        expect(trainable.blocked).toEqual([]);
        expect(predicted(model, input)).toEqual(before);
        expect(tf.tidy(() => values(trainable.predict(input) as tf.Tensor))).toEqual(before);
        expect(tf.tidy(() => values(trainable.apply(input)))).toEqual(before);

        const optimizer = loraAdam(0.02, {rank: 1, rest: 'train'});
        const losses: number[] = [];
        let flat = 0;
        for (let i = 0; i < 12; i++) {
          const cost = optimizer.minimize(
            () => towards(trainable.apply(input)),
            true,
            list(trainable.variables),
          )!;
          losses.push(cost.dataSync()[0]!);
          cost.dispose();
          if (i === 1) flat = numTensors();
        }
        expect(numTensors()).toBe(flat);
        expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]!);
        const rows = optimizer.explain(list(trainable.variables), null);
        const arrived = rows.filter(({capture}) => capture.startsWith('factored')).map(row => row.name);
        expect(arrived.map(found => found.replace(/_\d+$/, ''))).toEqual(factored);
        expect(predicted(model, input)).not.toEqual(before);

        optimizer.dispose();
        trainable.restore();
        trainable.restore();
        expect(predicted(model, input)).toEqual(before);
        expect(numTensors()).toBe(tensors);
        expect(() => trainable.apply(input)).toThrow('restored');
      });
    }

    test(`${name}: a step of LoRA is that of the same computation by hand`, async () => {
      const trainable = trainableGraphModel(await graph().load());
      const mine = copies(trainable.variables);
      const [input, start] = [x(), list(trainable.variables).map(values)];
      const options = {rank: 2, rest: 'train', seed: 3} as const;
      const [one, other] = [loraSgd(0.1, options), loraSgd(0.1, options)];
      for (let i = 0; i < 3; i++) {
        one.minimize(() => towards(trainable.apply(input)), false, list(trainable.variables));
        other.minimize(() => towards(byHand(mine, input)), false, list(mine));
      }
      for (const [i, [path, w]] of Object.entries(trainable.variables).entries()) {
        expect(values(w), path).not.toEqual(start[i]);
        expectClose(values(w), values(mine[path]!), 1e-6);
      }
      one.dispose();
      other.dispose();
    });

    // The wasm backend of tfjs has no gradients of convolutions and tables.
    test.skipIf(backend === 'wasm' && name !== 'mlp')(`${name}: a step of SGD is that by hand`, async () => {
      const trainable = trainableGraphModel(await graph().load());
      const mine = copies(trainable.variables);
      const input = x();
      const sgd = tf.train.sgd(0.1);
      for (let i = 0; i < 2; i++) {
        sgd.minimize(() => towards(trainable.apply(input)), false, list(trainable.variables));
        sgd.minimize(() => towards(byHand(mine, input)), false, list(mine));
      }
      for (const [path, w] of Object.entries(trainable.variables))
        expectClose(values(w), values(mine[path]!), 1e-6);
    });

    test(`${name}: saved and loaded it predicts the same, bit by bit`, async () => {
      const trainable = trainableGraphModel(await graph().load(SIGNATURES[name]));
      const input = x();
      const optimizer = loraAdam(0.02, {rank: 1});
      optimizer.minimize(() => towards(trainable.apply(input)), false, list(trainable.variables));
      const model = await tf.loadGraphModel(tf.io.fromMemory(await saved(trainable)));
      expect(predicted(model, input)).toEqual(predicted(trainable.model as tf.GraphModel, input));
      expect(model.modelSignature).toEqual((trainable.model as tf.GraphModel).modelSignature);
      // What was saved can be trained again.
      const again = trainableGraphModel(model);
      expect(Object.keys(again.variables)).toEqual(paths);
      again.restore();
      optimizer.dispose();
    });
  }

  test.each(['float16', 'uint8'])(
    '%s weights are written as they were, and as float32 where they moved',
    async as => {
      const graph = mlp({as});
      const trainable = trainableGraphModel(await graph.load());
      const input = CASES['mlp']!.x();
      const original = graph.artifacts();
      const untouched = await saved(trainable);
      expect(untouched.weightSpecs).toEqual(original.weightSpecs);
      expect(new Uint8Array(untouched.weightData as ArrayBuffer)).toEqual(
        new Uint8Array(original.weightData as ArrayBuffer),
      );

      const optimizer = loraAdam(0.02, {rank: 1, targets: 'model/hidden/MatMul'});
      optimizer.minimize(() => towards(trainable.apply(input)), false, list(trainable.variables));
      const after = await saved(trainable);
      const moved = 'StatefulPartitionedCall/model/hidden/MatMul/ReadVariableOp';
      expect(after.weightSpecs).toEqual(
        original.weightSpecs!.map(spec =>
          spec.name === moved ? {name: moved, shape: [6, 8], dtype: 'float32'} : spec,
        ),
      );
      const model = await tf.loadGraphModel(tf.io.fromMemory(after));
      expect(predicted(model, input)).toEqual(predicted(trainable.model as tf.GraphModel, input));
      const weights = tf.io.decodeWeights(after.weightData as ArrayBuffer, after.weightSpecs!);
      expect(weights['vocabulary']!.dataSync()).toEqual(['some', 'ünïcode', '']);
      optimizer.dispose();
    },
  );

  test('a model that was streamed is saved whole', async () => {
    const {weightData, ...rest} = mlp({as: 'float16'}).artifacts();
    const getWeightStream = () => new Blob([weightData as ArrayBuffer]).stream() as never;
    const load = async () => ({...rest, getWeightStream});
    const trainable = trainableGraphModel(await tf.loadGraphModel({load} as tf.io.IOHandler));
    const artifacts = await saved(trainable);
    expect(artifacts.getWeightStream).toBeUndefined();
    const model = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
    const input = CASES['mlp']!.x();
    expect(predicted(model, input)).toEqual(predicted(trainable.model as tf.GraphModel, input));
  });

  test.each(['Relu6', 'Elu', 'LeakyRelu', 'Sigmoid'])('gradients pass a fused %s', async activation => {
    for (const [graph, input] of [
      [mlp({activation}), CASES['mlp']!.x()],
      [convnet({activation}), CASES['convnet']!.x()],
    ] as const) {
      const model = await graph.load();
      const before = predicted(model, input);
      const trainable = trainableGraphModel(model);
      // While it records, tfjs computes the activation apart from the product.
      let recorded: number[] = [];
      const optimizer = loraSgd(0.05, {rank: 1});
      const cost = () =>
        optimizer
          .minimize(
            () => {
              const y = trainable.apply(input);
              recorded = values(y);
              return towards(y);
            },
            true,
            list(trainable.variables),
          )!
          .dataSync()[0]!;
      const first = cost();
      expectClose(recorded, before, 1e-6);
      for (let i = 0; i < 5; i++) cost();
      expect(cost()).toBeLessThan(first);
      optimizer.dispose();
      trainable.restore();
    }
  });

  test('a dilated convolution has a gradient for its own filter, and blocks those before it', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    const trainable = trainableGraphModel(await convnet({dilation: 2}).load());
    expect(Object.keys(trainable.variables)).toEqual(CASES['convnet']!.paths.slice(4));
    const before = values(trainable.variables['conv3/kernel']!);
    const optimizer = loraSgd(0.1, {rank: 1, targets: 'conv3/kernel'});
    optimizer.minimize(
      () => towards(trainable.apply(CASES['convnet']!.x())),
      false,
      list(trainable.variables),
    );
    expect(values(trainable.variables['conv3/kernel']!)).not.toEqual(before);
    expect(trainable.blocked).toEqual([
      {
        node: 'conv3/Conv2D',
        op: 'Conv2D',
        why: 'tfjs has no gradient for the input of a convolution with dilation',
        weights: CASES['convnet']!.paths.slice(0, 4),
        before: ['conv2/BiasAdd'],
      },
    ]);
    optimizer.dispose();
  });
});

onEachBackend('which weights of a GraphModel', backend => {
  test('targets narrow them, include adds what is no weight', async () => {
    const model = await convnet().load();
    const paths = (options: Parameters<typeof trainableGraphModel>[1]) => {
      const trainable = trainableGraphModel(model, options);
      trainable.restore();
      return Object.keys(trainable.variables);
    };
    expect(paths({targets: /^conv3/})).toEqual(['conv3/kernel', 'conv3/bias']);
    expect(paths({targets: ['head', 'conv1/Conv2D_weights']})).toEqual([
      'head/kernel',
      'conv1/Conv2D_weights',
    ]);
    expect(paths({targets: ({shape}) => shape.length === 4})).toHaveLength(3);
    expect(paths({targets: 'head', include: 'bn/mean'})).toEqual(['head/kernel', 'bn/mean']);
    expect(paths({include: /variance$/})).toEqual([...CASES['convnet']!.paths, 'bn/variance']);
    expect(() => paths({targets: 'bn/mean'})).toThrow(
      /targets: "bn\/mean" matches no weight\. The weights seen: conv1\/Conv2D_weights \[3,3,2,4\]/,
    );
    expect(() => paths({targets: ['head', 'hand']})).toThrow('targets: "hand" matches no weight');
    expect(() => paths({targets: []})).toThrow('targets: an empty list names no weight');
    expect(() => paths({targets: 'head', include: []})).toThrow('include: an empty list names no weight');
    // A refusal leaves the model free.
    expect(paths({targets: 'head'})).toEqual(['head/kernel']);
  });

  test('a batch norm written out is a gain and a bias among the weights', async () => {
    const graph = new Graph();
    graph.input('x', [-1, 6]);
    graph.weight('dense/MatMul', [6, 5], 1);
    graph.node('MatMul', 'dense', ['x', 'dense/MatMul']);
    graph.weight('norm/batchnorm/mul', [5], 2, {offset: 1});
    graph.weight('norm/batchnorm/sub', [5], 3);
    graph.node('Mul', 'norm/batchnorm/mul_1', ['dense', 'norm/batchnorm/mul']);
    graph.node('AddV2', 'norm/batchnorm/add_1', ['norm/batchnorm/mul_1', 'norm/batchnorm/sub']);
    const {variables, apply, restore} = trainableGraphModel(await graph.load());
    expect(Object.keys(variables)).toEqual(['dense/MatMul', 'norm/batchnorm/mul', 'norm/batchnorm/sub']);
    const x = normal([4, 6], 5);
    const before = list(variables).map(values);
    const optimizer = loraSgd(0.1, {rank: 1, rest: 'train'});
    optimizer.minimize(() => towards(apply(x)), false, list(variables));
    list(variables).forEach((w, i) => expect(values(w)).not.toEqual(before[i]));
    optimizer.dispose();
    restore();
  });

  test('a head of the users own trains in full behind a node in the middle, the rest by LoRA', async () => {
    const model = await convnet().load();
    const {variables, apply, restore} = trainableGraphModel(model, {outputs: ['pool/Mean']});
    expect(Object.keys(variables)).toEqual(CASES['convnet']!.paths.slice(0, -1));
    const head = tf.variable(normal([5, 4], 8), true, 'head');
    const x = CASES['convnet']!.x();
    const labels = tf.oneHot(tf.tensor1d([0, 3, 1], 'int32'), 4);
    const optimizer = loraAdam(0.02, {
      targets: [
        ['head', 'train'],
        [({shape}) => shape.length > 1, lora({rank: 1})],
      ],
    });
    const loss = () =>
      tf.losses.softmaxCrossEntropy(
        labels,
        tf.matMul(apply(x) as tf.Tensor2D, head as tf.Tensor2D),
      ) as tf.Scalar;
    const costs = Array.from({length: 12}, () => {
      const cost = optimizer.minimize(loss, true, [...list(variables), head])!;
      return cost.dataSync()[0]!;
    });
    expect(costs.at(-1)!).toBeLessThan(0.8 * costs[0]!);
    const rows = optimizer.explain([...list(variables), head], null);
    expect(rows.at(-1)).toMatchObject({name: 'head', treatment: 'train', trained: 20});
    expect(rows.slice(0, -1).filter(({treatment}) => treatment === 'lora').length).toBeGreaterThan(1);
    optimizer.dispose();
    restore();
    head.dispose();
  });

  test('statistics that were included can be trained', async () => {
    const trainable = trainableGraphModel(await convnet().load(), {targets: 'head', include: 'bn/mean'});
    const before = values(trainable.variables['bn/mean']!);
    tf.train
      .sgd(0.1)
      .minimize(() => towards(trainable.apply(CASES['convnet']!.x())), false, list(trainable.variables));
    expect(values(trainable.variables['bn/mean']!)).not.toEqual(before);
  });

  test('constants that are mixed with constants alone are none, gains and biases of computed values are', async () => {
    const graph = new Graph();
    graph.input('x', [-1, 3]);
    for (const [i, name] of ['gamma', 'beta', 'variance', 'gain'].entries()) graph.weight(name, [3], i + 1);
    graph.constant('epsilon', [], Float32Array.of(0.1));
    graph.node('Square', 'positive', ['variance']);
    graph.node('AddV2', 'stable', ['positive', 'epsilon']);
    graph.node('Rsqrt', 'rsqrt', ['stable']);
    graph.node('Mul', 'scale', ['rsqrt', 'gamma']);
    graph.node('Mul', 'scaled', ['x', 'scale']);
    graph.node('AddV2', 'shifted', ['scaled', 'beta']);
    graph.node('Identity', 'read', ['gain']);
    graph.node('Mul', 'out', ['shifted', 'read']);
    const trainable = trainableGraphModel(await graph.load());
    expect(Object.keys(trainable.variables)).toEqual(['beta', 'gain']);
    tf.train
      .sgd(0.1)
      .minimize(() => towards(trainable.apply(normal([2, 3], 5))), false, list(trainable.variables));
    trainable.restore();
  });

  test('what the outputs do not depend on is no target', async () => {
    const model = await mlp().load();
    const trainable = trainableGraphModel(model, {outputs: ['StatefulPartitionedCall/model/hidden/Relu']});
    expect(Object.keys(trainable.variables)).toEqual(CASES['mlp']!.paths.slice(0, 2));
    expect(trainable.apply(CASES['mlp']!.x()).shape).toEqual([5, 8]);
    trainable.restore();
    expect(() => trainableGraphModel(model, {outputs: ['nowhere']})).toThrow(
      'outputs: the graph has no node "nowhere"',
    );
  });

  test('several outputs come together', async () => {
    const outputs = ['StatefulPartitionedCall/model/hidden/Relu', 'logits'];
    const trainable = trainableGraphModel(await mlp().load(SIGNATURES['mlp']), {outputs});
    const x = CASES['mlp']!.x();
    expect(trainable.applyAll(x).map(y => y.shape)).toEqual([
      [5, 8],
      [5, 3],
    ]);
    expect(() => trainable.apply(x)).toThrow('model/hidden/Relu, logits: name one of them');
    const sgd = tf.train.sgd(0.1);
    sgd.minimize(() => tf.addN(trainable.applyAll(x).map(towards)), false, list(trainable.variables));
    trainable.restore();
  });

  test('two models of one graph have variables of their own', async () => {
    const one = trainableGraphModel(await mlp().load());
    const other = trainableGraphModel(await mlp().load());
    expect(Object.keys(one.variables)).toEqual(Object.keys(other.variables));
    tf.train.sgd(1).minimize(() => towards(one.apply(CASES['mlp']!.x())), false, list(one.variables));
    expect(list(one.variables).map(values)).not.toEqual(list(other.variables).map(values));
    one.restore();
    other.restore();
  });

  test('names that are alike without their ends keep them', async () => {
    const graph = new Graph();
    graph.input('x', [-1, 3]);
    const names = [
      'dense/ReadVariableOp',
      'dense/ReadVariableOp_1',
      'other/ReadVariableOp_1',
      'dense_1/kernel',
    ];
    names.forEach((name, i) => {
      graph.weight(name, [3, 3], i + 1);
      graph.node('MatMul', `y${i}`, [i === 0 ? 'x' : `y${i - 1}`, name]);
    });
    const trainable = trainableGraphModel(await graph.load());
    expect(Object.keys(trainable.variables)).toEqual([...names.slice(0, 2), 'other', 'dense_1/kernel']);
    trainable.restore();
    expect(backend).toBe(tf.getBackend());
  });
});

onEachBackend('what stands in the way of gradients', () => {
  const einsum = {
    node: 'attention/scores',
    op: 'Einsum',
    why: 'tfjs has no gradient for Einsum',
    weights: ['embed/table', 'positions', 'attention/query/kernel', 'attention/key/kernel'],
    before: ['attention/query', 'attention/key'],
  };

  test('an op without gradient is named with the weights that it blocks', async () => {
    vi.spyOn(console, 'warn').mockImplementation(() => {});
    const model = await attention('Einsum').load();
    const trainable = trainableGraphModel(model);
    expect(Object.keys(trainable.variables)).toEqual(['attention/value/kernel', 'head/kernel']);
    expect(trainable.blocked).toEqual([einsum]);
    trainable.restore();
    const tensors = numTensors();
    expect(() => trainableGraphModel(model, {targets: 'attention/query'})).toThrow(
      'tfjs has no gradient for Einsum (node attention/scores), which is on the way to attention/query/kernel',
    );
    expect(numTensors()).toBe(tensors);
  });

  test('an op beside the way blocks nothing', async () => {
    const trainable = trainableGraphModel(await attention('Einsum').load(), {outputs: ['attention/key']});
    expect(trainable.blocked).toEqual([]);
    expect(Object.keys(trainable.variables)).toEqual(['embed/table', 'positions', 'attention/key/kernel']);
    trainable.restore();
  });

  test('a graph without a way is refused', async () => {
    const graph = new Graph();
    graph.input('x', [-1, 3]);
    graph.weight('kernel', [3, 3], 1);
    graph.node('MatMul', 'y', ['x', 'kernel']);
    graph.int('axis', 1);
    graph.node('Cumprod', 'out', ['y', 'axis']);
    const model = await graph.load();
    expect(() => trainableGraphModel(model)).toThrow(
      'nothing in this graph can be trained: tfjs has no gradient for Cumprod (node out), which is on the way to kernel',
    );
  });

  test('a loop is refused; with inputs behind it or outputs before it the rest trains', async () => {
    const model = await loop().load();
    const x = normal([2, 4], 7);
    const before = values((await model.executeAsync(x)) as tf.Tensor);
    expect(() => trainableGraphModel(model)).toThrow(
      'while is StatelessWhile, which tfjs runs with executeAsync only',
    );

    // tfjs does not take the value of a loop from outside either.
    expect(() => trainableGraphModel(model, {inputs: ['while']})).toThrow('while is StatelessWhile');
    const behind = trainableGraphModel(model, {inputs: ['state']});
    expect(Object.keys(behind.variables)).toEqual(['last/kernel']);
    const features = (await model.executeAsync(x, 'state')) as tf.Tensor;
    expect(values(behind.apply(features))).toEqual(before);
    expect(values(behind.apply({state: features}))).toEqual(before);
    expect(() => behind.apply([features, features])).toThrow('2 tensors for the 1 inputs state');
    const optimizer = loraSgd(0.01, {rank: 1});
    optimizer.minimize(() => towards(behind.apply(features)), false, list(behind.variables));
    const tensors = numTensors();
    const after = (await model.executeAsync(x)) as tf.Tensor;
    expect(values(after)).not.toEqual(before);
    expect(values(after)).toEqual(values(behind.apply(features)));
    after.dispose();
    // What runs asynchronously disposes all but the weights.
    expect(list(behind.variables).every(w => !w.isDisposed)).toBe(true);
    expect(numTensors()).toBe(tensors + 1);
    optimizer.dispose();
    behind.restore();
    expect(values((await model.executeAsync(x)) as tf.Tensor)).toEqual(before);

    const ahead = trainableGraphModel(model, {outputs: ['first/MatMul']});
    expect(Object.keys(ahead.variables)).toEqual(['first/kernel']);
    ahead.restore();
  });
});

onEachBackend('the life of a trainable GraphModel', () => {
  test('disposing the model disposes the variables, and what they were', async () => {
    const tensors = numTensors();
    const model = await mlp().load();
    const trainable = trainableGraphModel(model);
    const x = CASES['mlp']!.x();
    tf.train.sgd(0.1).minimize(() => towards(trainable.apply(x)), false, list(trainable.variables));
    model.dispose();
    expect(list(trainable.variables).every(w => w.isDisposed)).toBe(true);
    trainable.restore();
    tf.dispose(x);
    // The rate of SGD, kept by tfjs.
    expect(numTensors()).toBe(tensors + 1);
    await expect(saved(trainable)).rejects.toThrow('restored');
  });

  test('variables that were disposed elsewhere are found out, and restored from', async () => {
    const model = await mlp().load();
    const x = CASES['mlp']!.x();
    const before = predicted(model, x);
    const tensors = numTensors();
    const trainable = trainableGraphModel(model);
    tf.disposeVariables();
    expect(() => trainable.apply(x)).toThrow('restore() brings the model back');
    trainable.restore();
    expect(predicted(model, x)).toEqual(before);
    expect(numTensors()).toBe(tensors);
  });

  test('a model is wrapped once, and again after restore', async () => {
    const model = await mlp().load();
    const trainable = trainableGraphModel(model);
    expect(() => trainableGraphModel(model)).toThrow('trainable already');
    trainable.restore();
    trainableGraphModel(model).restore();
    expect(Object.hasOwn(model, 'dispose')).toBe(false);
  });

  test('other things are refused with a reason, and nothing is changed', async () => {
    const layers = tf.sequential({layers: [tf.layers.dense({units: 1, inputShape: [2]})]});
    expect(() => trainableGraphModel(layers as never)).toThrow('a LayersModel can be compiled');
    expect(() => trainableGraphModel({} as never)).toThrow('needs a model of tf.loadGraphModel');
    expect(() => trainableGraphModel(null as never)).toThrow('needs a model of tf.loadGraphModel');
    const model = (await mlp().load()) as unknown as {executor: Record<string, unknown>; execute: unknown};
    const other = (executor: object, more = {}) =>
      Object.assign(Object.create(model as object), {executor, ...more}) as never;
    expect(() => trainableGraphModel(other(undefined as never))).toThrow('model.executor');
    expect(() => trainableGraphModel(other({}))).toThrow(
      `executor.weightMap. The tfjs-core here is ${tf.version_core}`,
    );
    expect(() => trainableGraphModel(other(model.executor, {artifacts: 1}))).toThrow('model.artifacts');
    const {weightMap} = model.executor as {weightMap: Record<string, tf.Tensor[]>};
    const [graph, outputNodes, weightIds] = [
      model.executor['graph'],
      model.executor['outputNodes'],
      [] as number[],
    ];
    const tensors = numTensors();
    const before = Object.values(weightMap).map(([tensor]) => tensor);
    // An executor that does not take note of new weights would dispose them.
    expect(() => trainableGraphModel(other({weightMap, graph, outputNodes, weightIds}))).toThrow(
      'does not take other tensors',
    );
    expect(Object.values(weightMap).map(([tensor]) => tensor)).toEqual(before);
    expect(numTensors()).toBe(tensors);
    layers.dispose();
  });

  test('what is saved is of the moment of the call, whatever comes after', async () => {
    const input = CASES['mlp']!.x();
    for (const after of ['train', 'restore'] as const) {
      const trainable = trainableGraphModel(await mlp().load());
      const [first, second] = list(trainable.variables);
      const grow = (w: tf.Variable) => tf.tidy(() => w.assign(tf.mul(w, 1.5)));
      grow(first!);
      grow(second!);
      const wanted = predicted(trainable.model as tf.GraphModel, input);
      const tensors = numTensors();
      const saving = saved(trainable);
      if (after === 'restore') trainable.restore();
      else {
        grow(first!);
        grow(second!);
      }
      const model = await tf.loadGraphModel(tf.io.fromMemory(await saving));
      expect(predicted(model, input)).toEqual(wanted);
      model.dispose();
      if (after === 'train') expect(numTensors()).toBe(tensors);
      trainable.restore();
    }
  });

  test('outputs may be one name; none, and what is no name, is told; a model that was disposed too', async () => {
    const model = await mlp().load();
    const wrap = (options: object) => trainableGraphModel(model, options);
    wrap({outputs: 'Identity', inputs: 'StatefulPartitionedCall/model/hidden/Relu'}).restore();
    expect(() => wrap({outputs: 'zzz'})).toThrow('outputs: the graph has no node "zzz"');
    expect(() => wrap({outputs: []})).toThrow('outputs: [] names no node');
    expect(() => wrap({inputs: [3]})).toThrow(
      "inputs takes names of nodes or signature keys, e.g. ['dense/MatMul'], not 3",
    );
    model.dispose();
    expect(() => wrap({})).toThrow('this model was disposed; load it again');
  });

  test('names that end in a number are kept in an adapter of the optimizer alone', async () => {
    const load = async () => {
      const graph = new Graph();
      graph.input('x', [-1, 6]);
      ['unknown_7', 'unknown_12'].forEach((name, i) => graph.weight(name, i === 0 ? [6, 6] : [6, 5], i));
      graph.node('MatMul', 'first', ['x', 'unknown_7']);
      graph.node('MatMul', 'second', ['first', 'unknown_12']);
      return trainableGraphModel(await graph.load());
    };
    const trainable = await load();
    const input = normal([4, 6], 3);
    const optimizer = loraAdam(0.1, {rank: 1});
    for (let i = 0; i < 2; i++)
      optimizer.minimize(() => towards(trainable.apply(input)), false, list(trainable.variables));
    const adapter = await adapterOf(optimizer);
    expect(adapter.weights.map(({path}) => path)).toEqual(['unknown_7', 'unknown_12']);
    const wanted = values(trainable.apply(input));
    trainable.restore();
    const other = await load();
    await mergeAdapter(other.variables, adapter);
    expectClose(values(other.apply(input)), wanted, 1e-5);
    other.restore();
    optimizer.dispose();
  });

  test('save wants a place', async () => {
    const trainable = trainableGraphModel(await mlp().load());
    await expect(trainable.save('nowhere://x')).rejects.toThrow('0 handlers can save to nowhere://x');
    await expect(trainable.save({load: async () => ({})})).rejects.toThrow('save needs an address');
    await expect(trainable.save('file://tuned')).rejects.toThrow("nodeFiles('tuned') of tfjs-lora/adapter");
    await expect(trainable.save(undefined as never)).rejects.toThrow('save needs an address');
    trainable.restore();
  });

  test('a graph that runs once at the start disposes no variable', async () => {
    const graph = mlp();
    graph.values('start/table', [2], Float32Array.of(1, 2));
    const start = new Graph();
    start.constant('start/table', [2], Float32Array.of(0, 0));
    start.node('Square', 'start/Square', ['start/table']);
    const artifacts = {...graph.artifacts(), modelInitializer: start.artifacts().modelTopology as object};
    const model = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
    const trainable = trainableGraphModel(model);
    const input = CASES['mlp']!.x();
    const after = values((await model.executeAsync(input)) as tf.Tensor);
    expect(list(trainable.variables).every(w => !w.isDisposed)).toBe(true);
    expect(values(trainable.apply(input))).toEqual(after);
    trainable.restore();
    expect(predicted(model, input)).toEqual(after);
  });

  test('the variables are weights by path, for adapters', async () => {
    const {variables} = trainableGraphModel(await mlp().load());
    expect([...namedWeights(variables)]).toEqual(Object.entries(variables));
  });
});

import * as tf from '@tensorflow/tfjs';
import {expect, test} from 'vitest';
import {attention, lora, loraAdam, projected} from '../../src/index.js';
import {fromJson, toJson} from '../../src/recipe.js';

/** Names as they are in models, and the roles they play. */
const NAMES: readonly (readonly [name: string, roles: string])[] = [
  ['block0/attention/query/kernel', 'q'],
  ['block0/attention/key/kernel', 'k'],
  ['block0/attention/value/kernel_1', 'v'],
  ['block0/attention/output/kernel', 'o'],
  ['multi_head_attention_3/query/kernel', 'q'],
  ['transformer_layer_0/self_attention_layer/attention_output/kernel', 'o'],
  ['encoder/layer_0/self_attention/query_dense/kernel', 'q'],
  ['tf_bert_model/bert/encoder/layer_._0/attention/self/value/kernel:0', 'v'],
  ['tf_bert_model/bert/encoder/layer_._0/attention/output/dense/kernel:0', 'o'],
  ['tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0', ''],
  ['tf_bert_model/bert/encoder/layer_._0/intermediate/dense/kernel:0', ''],
  ['distilbert/transformer/layer_._0/attention/k_lin/kernel', 'k'],
  ['distilbert/transformer/layer_._0/attention/out_lin/kernel', 'o'],
  ['model.layers.0.self_attn.q_proj.weight', 'q'],
  ['model.layers.0.self_attn.o_proj.weight', 'o'],
  ['model.layers.0.mlp.down_proj.weight', ''],
  ['model.layers.0.mlp.gate_proj.weight', ''],
  ['encoder.block.0.layer.0.SelfAttention.v.weight', 'v'],
  ['encoder.block.0.layer.1.DenseReluDense.wo.weight', ''],
  ['transformer/h_._0/attn/c_attn/weight', 'qkv'],
  ['transformer/h_._0/attn/c_proj/weight', 'o'],
  ['transformer/h_._0/mlp/c_proj/weight', ''],
  ['blocks.0.attn.qkv.weight', 'qkv'],
  ['blocks.0.attn.proj.weight', 'o'],
  ['gpt_neox.layers.0.attention.query_key_value.weight', 'qkv'],
  ['encoder/wq/kernel', 'q'],
  ['attn1/to_v/kernel', 'v'],
  ['attn1/to_out/0/kernel', 'o'],
  ['actor_critic/value/kernel', ''],
  ['key_embedding/embeddings', ''],
  ['output/kernel', ''],
];

test.each(['q', 'k', 'v', 'o', 'qv', 'qkv', 'all'])('attention(%j) finds these names and no other', which => {
  const wanted = which === 'all' ? 'qkvo' : which;
  for (const [name, roles] of NAMES) {
    const found = attention(which)({name, shape: [8, 8]});
    expect(found, name).toBe([...roles].some(role => wanted.includes(role)));
    expect(attention(which)({name, shape: [8]}), `${name}, a vector`).toBe(false);
  }
});

test('the default is query and value; it filters variables too', () => {
  const at = (name: string) => tf.variable(tf.zeros([8, 8]), true, name);
  const variables = ['a/attention/query/kernel', 'a/attention/key/kernel', 'a/attention/value/kernel'].map(
    at,
  );
  expect(variables.filter(attention()).map(({name}) => name)).toEqual([
    variables[0]!.name,
    variables[2]!.name,
  ]);
  tf.disposeVariables();
});

test('what matches nothing is an error that says so and lists the names', () => {
  const weight = tf.variable(tf.zeros([20, 20]), true, 'mlp/up/kernel');
  const optimizer = loraAdam(1e-3, {rank: 2, targets: attention('qv')});
  expect(() => optimizer.minimize(() => tf.sum(weight), false, [weight])).toThrow(
    'targets: the rule attention("qv") matches no weight. The weights seen: mlp/up/kernel [20,20].',
  );
  optimizer.dispose();
  tf.disposeVariables();
});

test('survives a file', () => {
  const again = fromJson(toJson({targets: attention('k')}), '') as {targets: ReturnType<typeof attention>};
  expect(again.targets({name: 'attention/key/kernel', shape: [2, 2]})).toBe(true);
  expect(again.targets({name: 'attention/query/kernel', shape: [2, 2]})).toBe(false);
  expect(projected(tf.train.sgd(1), lora(), {targets: attention()}).getConfig()['name']).toContain(
    'attention',
  );
});

test.each(['', 'x', 'qx', 'query', 3])('refuses %j', which => {
  expect(() => attention(which as string)).toThrow(/give some of the letters q, k, v, o, or 'all'/);
});

test.each([
  'pattern_net/dense/kernel',
  'flatten_mlp/output/kernel',
  'battery/dense/kernel',
  'vit/attention/mlp/dense/kernel',
])('%s is no attention matrix', name => {
  for (const role of ['q', 'k', 'v', 'o', 'all']) expect(attention(role)({name, shape: [8, 8]})).toBe(false);
});

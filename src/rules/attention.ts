import {recipe} from '../recipe.js';
import type {WeightInfo} from '../targets.js';

/**
 * The matrices of attention layers, by their names: any of `q`, `k`, `v`, `o` (query, key, value, output), or 'all'.
 * Default 'qv', what the paper of LoRA trains.
 *
 *     loraAdam(1e-3, {targets: attention('qkvo')})
 *
 * It knows, as a segment of the name between `/`, `.` or `:`,
 * - `query`, `q` where the name speaks of attention (`att…`) too: Keras, BERT, T5;
 * - `q_proj`, `q_lin`, `q_dense`, `query_dense`, `wq`, `w_q`, `to_q` and the like anywhere: Llama, DistilBERT, Whisper;
 * - for the output also `attention_output`, and in attention `output`, `c_proj`, `proj`, `dense`: Keras, BERT, GPT-2, ViT;
 * - `c_attn`, `qkv`, `qkv_proj`, `query_key_value`, `in_proj`, which hold q, k and v in one: for any of these.
 * Vectors such as biases are left out.
 */
export const attention = /* @__PURE__ */ recipe(
  'attention',
  (which: string = 'qv'): ((weight: WeightInfo) => boolean) => {
    const roles = which === 'all' ? 'qkvo' : which;
    if (typeof roles !== 'string' || !/^[qkvo]+$/.test(roles)) {
      throw new TypeError(`attention: give some of the letters q, k, v, o, or 'all', not ${String(which)}`);
    }
    const patterns = [...roles].map(role => PATTERNS[role]!);
    if (/[qkv]/.test(roles)) patterns.push(FUSED);
    return ({name, shape}) => {
      if (shape.length < 2) return false;
      const inAttention = speaksOfAttention(name);
      const segments = name.split(/[/.:]/).map(segment => segment.replace(/^_/, '').toLowerCase());
      return patterns.some(({anywhere, within}) =>
        segments.some(segment => anywhere.test(segment) || (inAttention && within.test(segment))),
      );
    };
  },
);

/** Whether a word of the name is attention, and none says that it is the layer behind. */
function speaksOfAttention(name: string): boolean {
  const words = name
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .split(/[^a-z]+/);
  return words.some(word => /^att(n|s)?$|attentions?$/.test(word)) && !words.some(word => BEHIND.has(word));
}

const BEHIND = new Set(['mlp', 'ffn', 'feedforward', 'intermediate']);

interface RolePattern {
  readonly anywhere: RegExp;
  /** Words that mean it in an attention layer only. */
  readonly within: RegExp;
}

/** tfjs and Keras number equal names. */
const NUMBER = '(_\\d+)?$';

function role(letter: string, word: string): RolePattern {
  const stem = `(${letter}|${word})`;
  return {
    anywhere: RegExp(
      `^(${stem}_(proj|projection|lin|linear|dense)|w_?${letter}|to_${stem}|linear_${letter})${NUMBER}`,
    ),
    within: RegExp(`^${stem}${NUMBER}`),
  };
}

const PATTERNS: Readonly<Record<string, RolePattern>> = {
  q: role('q', 'query'),
  k: role('k', 'key'),
  v: role('v', 'value'),
  o: {
    anywhere: RegExp(`^((o|out)_(proj|lin)|to_out|att(entio)?n_(output|out|proj))${NUMBER}`),
    within: RegExp(`^(o|w_?o|out|output|c_proj|proj|projection|dense|(o|out|output)_dense)${NUMBER}`),
  },
};

const FUSED: RolePattern = {
  anywhere: RegExp(`^(c_attn|w?qkv|qkv_(proj|dense|lin)|query_key_value|in_proj(_weight)?)${NUMBER}`),
  within: /x^/,
};

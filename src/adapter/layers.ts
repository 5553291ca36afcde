/** What a weight does in its layer, as far as other formats tell such weights apart. */
export type LayerKind =
  'dense' | 'conv' | 'embedding' | 'depthwise' | 'transposed convolution' | 'recurrent' | 'vector';

/** The weight's own name: the last of its path, without the `#2` of a second one of that name. */
export const ownName = (path: string): string => path.slice(path.lastIndexOf('/') + 1).replace(/#\d+$/, '');

/** The path of its layer; a weight without one is its own. */
export const layerOf = (path: string): string =>
  path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : path;

/** Whether a weight is the vector that a layer adds, by the names tfjs-layers gives. */
export const isBias = (path: string): boolean => /^(bias|beta)$/.test(ownName(path));

/**
 * What kind of weight this is, by its name and shape. A kernel belongs to a recurrent layer when the layer is called so,
 * or one of `others` is its `recurrent_kernel`.
 */
export function kindOf(path: string, shape: readonly number[], others: ReadonlySet<string>): LayerKind {
  const [name, layer] = [ownName(path), layerOf(path)];
  if (shape.length < 2 || /^(gamma|beta)$/.test(name)) return 'vector';
  if (/^embeddings?$/.test(name)) return 'embedding';
  if (/^depthwise_kernel$/.test(name)) return 'depthwise';
  if (
    name === 'recurrent_kernel' ||
    others.has(`${layer}/recurrent_kernel`) ||
    (name === 'kernel' && RECURRENT.test(layer))
  ) {
    return 'recurrent';
  }
  if (shape.length === 2) return 'dense';
  return /transpose[^/]*$/i.test(layer) ? 'transposed convolution' : 'conv';
}

/** `lstm`, `lstm_1`, `lstm_LSTM1`, `forward_gru`; not `lstm_head`. */
const RECURRENT = /(^|[/_])(lstm|gru|simple_?rnn|rnn)(_?(cell|lstm|gru|simple_?rnn|\d+))*$/i;

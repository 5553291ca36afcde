/** What a layer of tfjs-layers is called with besides its inputs. */
type CallOptions = Readonly<Record<string, unknown>>;

/** A layer of tfjs-layers, as far as freezing needs it. */
interface FreezableLayer {
  readonly name: string;
  call(inputs: unknown, kwargs: CallOptions): unknown;
  /** Those of a model. */
  readonly layers?: readonly FreezableLayer[];
  /** That of a wrapper such as TimeDistributed. */
  readonly layer?: FreezableLayer;
}

/** A model of tfjs-layers. */
export interface ModelWithLayers {
  readonly name: string;
  readonly layers: readonly object[];
}

/**
 * Lets the batch norms of a LayersModel run in `fit` as they do in `predict`: with the saved mean and variance, which then
 * stay what they are, bit by bit. tfjs moves them in every `fit`, also where `layer.trainable` is false; for a model that
 * is tuned on little data that alone can spoil it. Gains and biases (gamma, beta) are trained still, where the layer is
 * trainable.
 *
 *     const thaw = freezeBatchNorm(model);
 *     await model.fit(x, y);
 *     thaw();
 *
 * Reaches layers in models within the model, and in wrappers (TimeDistributed).
 *
 * @returns a function that undoes it
 * @throws Error if the model has no batch norm
 */
export function freezeBatchNorm(model: ModelWithLayers): () => void {
  const norms = [...batchNormsIn(model as unknown as FreezableLayer)];
  if (norms.length === 0)
    throw new Error(`freezeBatchNorm: the model ${model?.name} has no BatchNormalization layer`);
  norms.forEach(freeze);
  let isFrozen = true;
  return () => {
    if (isFrozen) norms.forEach(thaw);
    isFrozen = false;
  };
}

interface Frozen {
  /** How many callers want it frozen. */
  count: number;
  readonly call: FreezableLayer['call'];
  readonly before: PropertyDescriptor | undefined;
}

const frozen = new WeakMap<FreezableLayer, Frozen>();

function freeze(layer: FreezableLayer): void {
  const there = frozen.get(layer);
  if (there) {
    there.count++;
    return;
  }
  const before = Object.getOwnPropertyDescriptor(layer, 'call');
  const inner = layer.call;
  const call: FreezableLayer['call'] = (inputs, kwargs) =>
    inner.call(layer, inputs, {...kwargs, training: false});
  Object.defineProperty(layer, 'call', {value: call, configurable: true, writable: true});
  frozen.set(layer, {count: 1, call, before});
}

function thaw(layer: FreezableLayer): void {
  const there = frozen.get(layer);
  if (!there || --there.count > 0) return;
  frozen.delete(layer);
  // Someone may have put something around it since.
  if (layer.call !== there.call) return;
  if (there.before) Object.defineProperty(layer, 'call', there.before);
  else Reflect.deleteProperty(layer, 'call');
}

function batchNormsIn(layer: FreezableLayer, found = new Set<FreezableLayer>()): Set<FreezableLayer> {
  if (layer && isBatchNorm(layer)) found.add(layer);
  for (const inner of [...(layer?.layers ?? []), layer?.layer]) if (inner) batchNormsIn(inner, found);
  return found;
}

/** Whether a layer's class is BatchNormalization or made from it, under whatever name it is registered. */
function isBatchNorm(layer: object): boolean {
  for (let at = Object.getPrototypeOf(layer); at; at = Object.getPrototypeOf(at)) {
    if ((at.constructor as {className?: unknown} | undefined)?.className === 'BatchNormalization')
      return true;
  }
  return false;
}

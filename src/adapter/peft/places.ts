import type {AdapterWeight} from '../adapter.js';
import {layerOf, type LayerKind, ownName} from '../layers.js';
import {NoPlace} from '../no-place.js';
import {type ExactProduct, exactProduct} from '../product.js';
import {errorOf} from '../untrusted.js';
import {type ModuleNames, partOf} from './mapping.js';

/** Where a weight goes. */
export interface Place {
  readonly weight: AdapterWeight;
  readonly module: string;
  /** PyTorch's name of the weight: `fc1.weight`. */
  readonly parameter: string;
  readonly kind: LayerKind;
  /** Null: trained whole. */
  readonly pair: ExactProduct | null;
}
export const isPair = (place: Place): place is Place & {pair: ExactProduct} => place.pair !== null;

export function moduleFor(names: ModuleNames, path: string): string | null {
  const module = names(path);
  if (module === null || (typeof module === 'string' && module !== '')) return module;
  throw errorOf(`toPeft: \`names\` must give a name or null for ${path}, and gave '${String(module)}'`);
}

export function placeOf(weight: AdapterWeight, module: string, kind: LayerKind): Place {
  const {path, shape, parametrization} = weight;
  const none = (what: string) =>
    new NoPlace(`toPeft: ${path} [${shape}] is ${what}; leave it out by \`names\` or by skip: true`);
  if (kind === 'recurrent') throw none("a recurrent layer's, and PEFT adapts none of these");
  const parameter = `${module}.${partOf(path)}`;
  if (parametrization === null) return {weight, module, parameter, kind, pair: null};
  if (kind === 'vector') throw none('a vector, and PEFT has no factors for these');
  if (kind === 'depthwise') throw none("a depthwise kernel, whose groups PEFT's factors do not follow");
  if (kind === 'transposed convolution')
    throw none("a transposed convolution's, and PEFT adapts none of these");
  return {weight, module, parameter, kind, pair: exactProduct(weight)};
}

/** Batch normalisation has its statistics in the file too, and an adapter has none of them. */
export function expectNoStatistics({path, shape, parametrization}: AdapterWeight): void {
  const isNormalisation = /batch_?norm|(^|[/_])bn_?\d*$/i.test(layerOf(path));
  if (parametrization !== null || ownName(path) !== 'gamma' || !isNormalisation) return;
  throw new NoPlace(
    `toPeft: ${path} [${shape}] is of batch normalisation, and PEFT would look for running_mean and running_var too; ` +
      'give `model`, which has them, or leave it out by `names` or by skip: true',
  );
}

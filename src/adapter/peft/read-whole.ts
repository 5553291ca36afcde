import type {AdapterWeight, HostTensor} from '../adapter.js';
import {kindOf} from '../layers.js';
import type {PeftConfig} from './config.js';
import type {Found} from './finder.js';
import {wholeLayout} from './layouts.js';
import {type Part, refuse} from './mapping.js';

/** Which modules saved whole hold their matrix as `[in, out]`, where somebody says so. */
type IsConv1D = ((module: string) => boolean) | undefined;

/** A weight that was saved whole, as it lies here; throws where its shape is none of such a weight. */
export function wholeWeight(
  module: string,
  part: Part,
  tensor: HostTensor,
  {path, shape, kind: known}: Found,
  config: PeftConfig,
  isConv1D: IsConv1D,
): AdapterWeight {
  const kind = known ?? (part === 'weight' ? kindOf(path, tensor.shape, new Set()) : 'vector');
  if (kind !== 'vector' && tensor.shape.length < 2) {
    return refuse(module, `has a ${part} [${tensor.shape}], and ${path} of this model is [${shape ?? '…'}]`);
  }
  const isAsHere = kind === 'dense' && isLikeHere(module, tensor.shape, shape, config, isConv1D);
  const weight = wholeLayout(kind, isAsHere).here(tensor, shape);
  if (!weight) {
    return refuse(
      module,
      `has a weight [${tensor.shape}], and ${path} is depthwise [${shape ?? 'kh,kw,in,times'}]`,
    );
  }
  if (shape && String(shape) !== String(weight.shape)) {
    refuse(module, `has a ${part} that is [${weight.shape}] here, and ${path} of this model is [${shape}]`);
  }
  const factors = {weight: {shape: weight.shape, values: weight.values}};
  return {path, shape: weight.shape, parametrization: null, factors, frozen: {}, base: null};
}

/** Whether a module holds its matrix as `[in, out]`. */
function isLikeHere(
  module: string,
  given: readonly number[],
  wanted: readonly number[] | null,
  {fanInFanOut}: PeftConfig,
  isConv1D: IsConv1D,
): boolean {
  if (isConv1D) return isConv1D(module);
  const [rows, columns] = given;
  if (rows !== columns) return wanted !== null && String(wanted) === String(given);
  if (!fanInFanOut) return false;
  return refuse(
    module,
    `has a whole weight [${given}], and with fan_in_fan_out it may be a Conv1D's, [in, out], or a Linear's, [out, in]; ` +
      'give `fanInFanOut: module => …`, true for those of Conv1D',
  );
}

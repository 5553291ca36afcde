import type {Variable} from '@tensorflow/tfjs-core';
import {expectWeights} from './expect.js';
import {namedWeights as byPath, type WeightsOf} from './paths.js';

/**
 * The weights of a model by paths that stay when the model is saved and loaded again, which the names of variables do
 * not: tfjs appends `_1` to those. A path is the names of the layers on the way and the weight's own, for instance
 * `encoder/dense_1/kernel`. A weight that several layers share has the path of the first. Two weights of one name are
 * told apart as `kernel` and `kernel#2`, in the model's order.
 *
 * Variables without a model go by their names, without the `_1`.
 *
 * @throws TypeError for what is no model and no variables.
 */
export function namedWeights(of: WeightsOf): Map<string, Variable> {
  expectWeights('namedWeights', of);
  return byPath(of);
}

import {read} from '../../linalg/read.js';
import type {Adapter} from '../adapter.js';
import {kindOf} from '../layers.js';
import {NoPlace} from '../no-place.js';
import {namedWeights, type WeightsOf} from '../paths.js';
import {errorOf, visible} from '../untrusted.js';
import {moduleOf, type ModuleNames, partOf, PREFIX} from './mapping.js';
import {savedBy, UNLIMITED} from './patterns.js';
import {expectNoStatistics, isPair, moduleFor, type Place, placeOf} from './places.js';

/** What is to be written. */
export interface Gathered {
  /** By parameter, in the order of the adapter, and then what `modules_to_save` needs besides. */
  readonly places: ReadonlyMap<string, Place>;
  /** All modules there are, as far as anyone knows. */
  readonly modules: ReadonlySet<string>;
  /** What `modules_to_save` names. */
  readonly saved: ReadonlySet<string>;
  /** Whether PEFT takes a module to be named there. */
  readonly isSaved: (module: string) => boolean;
}

/**
 * The weights of an adapter by their names in PyTorch, and with them what PEFT would look for.
 *
 * @throws Error where PEFT could not load it; see `toPeft`.
 */
export function gather(
  adapter: Adapter,
  {names = moduleOf, model, skip = false}: {names?: ModuleNames; model?: WeightsOf; skip?: boolean},
): Gathered {
  const variables = model && namedWeights(model);
  const paths = new Set([...adapter.weights.map(({path}) => path), ...(variables?.keys() ?? [])]);

  const places = new Map<string, Place>();
  const put = (place: Place) => {
    const taken = places.get(place.parameter);
    if (taken) {
      throw errorOf(
        `toPeft: ${taken.weight.path} and ${place.weight.path} would both be ${place.parameter}; tell them apart by \`names\``,
      );
    }
    places.set(place.parameter, place);
  };
  for (const weight of adapter.weights) {
    const module = moduleFor(names, weight.path);
    if (module === null) continue;
    try {
      if (!variables) expectNoStatistics(weight);
      put(placeOf(weight, module, kindOf(weight.path, weight.shape, paths)));
    } catch (error) {
      if (!skip || !(error instanceof NoPlace)) throw error;
    }
  }
  const pairs = [...places.values()].filter(isPair);
  if (pairs.length === 0) {
    throw errorOf(
      'toPeft: no weight has learned through factors, and PEFT has no adapter without; save the model itself',
    );
  }
  const isDora = pairs.some(({pair}) => pair.magnitude);
  const plain = pairs.find(({pair}) => !pair.magnitude);
  if (isDora && plain) {
    throw errorOf(
      `toPeft: ${plain.weight.path} is LoRA and others are DoRA, and PEFT has one use_dora for all; write two adapters, ` +
        'with `names` that return null for the weights of the other',
    );
  }
  const adapted = new Set(pairs.map(({module}) => module));
  const saved = new Set(
    [...places.values()].flatMap(({pair, module, weight}) =>
      pair === null && partOf(weight.path) !== 'bias' ? [module] : [],
    ),
  );
  const frozen = [...(variables ?? [])].flatMap(([path, {shape}]) => {
    const module = moduleFor(names, path);
    return module === null ? [] : [{path, module, parameter: `${module}.${partOf(path)}`, shape}];
  });
  const isSaved = savedBy([...saved], UNLIMITED);
  for (const {module, weight} of places.values()) {
    if (adapted.has(module) && isSaved(module)) throw taken(weight.path, module, saved);
  }
  if (isSaved(PREFIX.slice(0, -1))) throw taken('the whole model', PREFIX.slice(0, -1), saved);
  // What PEFT copies with the modules trained whole, and reads from the file.
  for (const {path, module, parameter, shape} of frozen) {
    if (places.has(parameter) || !isSaved(module)) continue;
    const kind = kindOf(path, shape, paths);
    if (kind === 'recurrent') throw taken(path, module, saved);
    const values = read(variables!.get(path)!, visible(`toPeft: ${path}`)).slice();
    const weight = {
      path,
      shape,
      parametrization: null,
      factors: {weight: {shape, values}},
      frozen: {},
      base: null,
    };
    put({weight, module, parameter, kind, pair: null});
  }
  for (const {module, parameter, weight} of places.values()) {
    if (isSaved(module) && !saved.has(module) && !places.has(`${module}.weight`)) {
      throw errorOf(
        `toPeft: ${weight.path} is ${parameter}, and PEFT would look for ${module}.weight too, because ${module} ends as ` +
          `a module trained whole does, ${endOf(module, saved)}; give \`model\`, or tell them apart by \`names\``,
      );
    }
  }
  const modules = new Set([...places.values(), ...frozen].map(({module}) => module));
  return {places, modules, saved, isSaved};
}

/** PEFT would copy a module because its name, or that of what it is in, ends as that of one trained whole. */
function taken(path: string, module: string, saved: ReadonlySet<string>): Error {
  return errorOf(
    `toPeft: ${path} is of ${module}, and ${endOf(module, saved)} was trained whole: PEFT's modules_to_save means every ` +
      'module whose name ends so, and could not load this one. Leave one of both out, or name it otherwise, by `names`',
  );
}
const endOf = (module: string, saved: ReadonlySet<string>): string =>
  [...saved].find(name => savedBy([name], UNLIMITED)(module))!;

import type {Parametrization} from '../parametrization.js';
import {fromJson, recipeOf, toJson} from '../recipe.js';
import type {Adapter, AdapterWeight, HostTensor, ModelPlace, WeightPrint} from './adapter.js';
import {expectFit} from './fit.js';
import {product} from './host.js';
import {MAX_NAME, MAX_PRINT} from './limits.js';
import {errorOf, oneLine, isRecord, own, parseJson, quote} from './untrusted.js';

/**
 * An adapter as files hold it, whichever kind: named tensors and a few strings.
 *
 *     tensors    `<path>/<factor>`, `<path>/frozen/<name>`, in the order of the weights
 *     metadata   format 'tfjs-lora', version '1', generated_by,
 *                adapter  JSON: {weights: [{path, shape, parametrization, factors, frozen, base}], model?: [{path, shape}]}
 *                user     JSON: the user's own strings
 *
 * `parametrization` is what `toJson` makes of it, null for a weight trained as it is; `factors` are names, `frozen` are
 * `{name, dtype}` with the dtype `float32` or `int32`; `base` is the weight's print, or null.
 */
export interface Parts {
  readonly tensors: ReadonlyMap<string, HostTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

const FORMAT = 'tfjs-lora';
const VERSION = '1';
/** tfjs counts the numbers of a tensor in 31 bits, and has no tensors of more than 6 axes. */
const MAX_SIZE = 2 ** 31 - 1;
const MAX_AXES = 6;

/** What files shall hold. Throws where `fromParts` could not read it again: equal adapters give equal parts. */
export function toParts({weights, model, generatedBy, metadata}: Adapter): Parts {
  const tensors = new Map<string, HostTensor>();
  const described = weights.map(({path, shape, parametrization, factors, frozen, base}) => {
    if (parametrization && !recipeOf(parametrization)) {
      throw errorOf(
        `${quote(path)}: its parametrization ${quote(parametrization.name)} was not made by recipe(…), so a file ` +
          `cannot say how to make it again: wrap its factory in recipe('${parametrization.name}', …)`,
      );
    }
    const put = (name: string, tensor: HostTensor) => {
      if (tensors.has(name)) throw errorOf(`two tensors of this adapter would be called ${quote(name)}`);
      tensors.set(name, tensor);
    };
    for (const [name, tensor] of Object.entries(factors)) put(`${path}/${name}`, tensor);
    for (const [name, tensor] of Object.entries(frozen)) put(`${path}/frozen/${name}`, tensor);
    return {
      path,
      shape: [...shape],
      parametrization: parametrization && toJson(parametrization),
      factors: Object.keys(factors),
      frozen: Object.entries(frozen).map(([name, tensor]) => ({name, dtype: dtypeOf(tensor)})),
      base: base && {norm: base.norm, products: [...base.products]},
    };
  });
  const parts = {
    tensors,
    metadata: {
      format: FORMAT,
      version: VERSION,
      generated_by: generatedBy,
      adapter: JSON.stringify({
        weights: described,
        ...(model && {model: model.map(({path, shape}) => ({path, shape: [...shape]}))}),
      }),
      user: JSON.stringify(metadata),
    },
  };
  // What could not be read again is not written.
  fromParts(parts, 'what it already uses');
  return parts;
}

/**
 * The adapter that `toParts` wrote: all of it, or an error of one line that names the weight and the part of the file.
 * Nothing in the file is believed: every tensor must be asked for and there, every number finite, every shape fit.
 *
 * @param known The parametrizations there are without any import, for the error about one that is not there.
 */
export function fromParts({tensors, metadata}: Parts, known: string): Adapter {
  const text = (key: string) => {
    const value = Object.hasOwn(metadata, key) ? metadata[key] : undefined;
    if (typeof value === 'string') return value;
    throw unreadable(value === undefined ? `its metadata has no '${key}'` : `its '${key}' is no string`);
  };
  if (!Object.hasOwn(metadata, 'format') || metadata['format'] !== FORMAT) {
    throw unreadable(`its metadata does not say format '${FORMAT}': was it written by something else?`);
  }
  const version = text('version');
  if (version !== VERSION) {
    throw unreadable(`it is of version ${quote(version)}, and this program reads version '${VERSION}'`);
  }
  const generatedBy = text('generated_by');
  const described = parseJson(text('adapter'), `${UNREADABLE}: its list of weights (metadata 'adapter')`);
  const list = isRecord(described) ? own(described, 'weights') : undefined;
  if (!Array.isArray(list)) throw unreadable("its metadata 'adapter' has no list of weights");
  if (list.length === 0) throw unreadable('it has no weights');

  const asked = new Set<string>();
  const paths = new Set<string>();
  const weights = (list as unknown[]).map((entry, i) => {
    const path = readPath(entry, i);
    if (paths.has(path)) throw unreadable(`it has the weight ${quote(path)} twice`);
    paths.add(path);
    const take = (name: string) => {
      const tensor = tensors.get(name);
      if (!tensor) throw unreadable(`weight ${quote(path)}: the tensor ${quote(name)} is missing`);
      if (asked.has(name)) throw unreadable(`two weights ask for the tensor ${quote(name)}`);
      asked.add(name);
      return tensor;
    };
    return readWeight(path, entry as Record<string, unknown>, take, known);
  });
  for (const name of tensors.keys()) {
    if (!asked.has(name)) throw unreadable(`the tensor ${quote(name)} belongs to no weight`);
  }
  const model = own(described as Record<string, unknown>, 'model');
  const places = model === undefined ? {} : {model: readPlaces(model, weights)};
  return {weights, ...places, generatedBy, metadata: readUser(text('user'))};
}

const UNREADABLE = 'not a readable adapter';
const unreadable = (reason: string) => errorOf(`${UNREADABLE}: ${reason}`);

const dtypeOf = ({values}: HostTensor) => (values instanceof Int32Array ? 'int32' : 'float32');

/** Every weight of the model the adapter was trained on: those it is for are among them, in their shapes. */
function readPlaces(value: unknown, weights: readonly AdapterWeight[]): ModelPlace[] {
  if (!Array.isArray(value)) throw unreadable("its 'model' is no list");
  const shapes = new Map<string, string>();
  const places = (value as unknown[]).map((entry, i) => {
    const path = readPath(entry, i);
    const shape = own(entry as Record<string, unknown>, 'shape');
    // Unlike those of an adapter, a weight of a model may hold no numbers, and have many axes.
    const isCounts = Array.isArray(shape) && shape.every(axis => Number.isSafeInteger(axis) && axis >= 0);
    if (!isCounts) throw unreadable(`in its 'model', ${quote(path)} has a shape that is no shape`);
    if (shapes.has(path)) throw unreadable(`its 'model' has ${quote(path)} twice`);
    shapes.set(path, String(shape));
    return {path, shape: [...(shape as number[])]};
  });
  for (const {path, shape} of weights) {
    if (shapes.get(path) === String(shape)) continue;
    throw unreadable(`weight ${quote(path)} [${shape}] is not among the weights of its 'model'`);
  }
  return places;
}

function readPath(entry: unknown, i: number): string {
  if (!isRecord(entry)) throw unreadable(`weight ${i} of its list is no object`);
  const path = own(entry, 'path');
  if (typeof path !== 'string' || path.length === 0 || path.length > MAX_NAME) {
    throw unreadable(`weight ${i} of its list has no path of 1 to ${MAX_NAME} characters`);
  }
  return path;
}

function readWeight(
  path: string,
  entry: Record<string, unknown>,
  tensor: (name: string) => HostTensor,
  known: string,
): AdapterWeight {
  const fail = (reason: string): never => {
    throw unreadable(`weight ${quote(path)}: ${reason}`);
  };
  const shape = own(entry, 'shape');
  if (!isShape(shape)) {
    fail(`its shape must be up to ${MAX_AXES} whole numbers from 1, with a product below 2^31`);
  }
  const checked = (name: string, part: string, dtype: string) => {
    const found = tensor(name);
    if (!isShape(found.shape)) fail(`the shape of its ${part} is no shape`);
    if (found.values.length !== product(found.shape)) {
      fail(`its ${part} has ${found.values.length} numbers for the shape [${found.shape}]`);
    }
    if (dtypeOf(found) !== dtype) fail(`its ${part} is ${dtypeOf(found)} where ${dtype} is asked for`);
    const bad = found.values.findIndex((value: number) => !Number.isFinite(value));
    if (bad >= 0) fail(`number ${bad} of its ${part} is ${found.values[bad]}`);
    return {shape: [...found.shape], values: found.values};
  };
  const factorNames = readList(own(entry, 'factors'), 'factors', fail).map(name =>
    readName(name, 'factor', fail),
  );
  const frozenNames = readList(own(entry, 'frozen'), 'frozen', fail).map(item => {
    const [name, dtype] = isRecord(item) ? [own(item, 'name'), own(item, 'dtype')] : [];
    if (dtype !== 'float32' && dtype !== 'int32') {
      return fail("its list 'frozen' must hold {name, dtype} with the dtype 'float32' or 'int32'");
    }
    return {name: readName(name, 'frozen part', fail), dtype};
  });
  if (factorNames.length === 0) fail('it has no factors');
  const factors = Object.fromEntries(
    factorNames.map(name => [name, checked(`${path}/${name}`, `factor ${quote(name)}`, 'float32')]),
  );
  const frozen = Object.fromEntries(
    frozenNames.map(({name, dtype}) => [
      name,
      checked(`${path}/frozen/${name}`, `frozen part ${quote(name)}`, dtype),
    ]),
  );
  const weight: AdapterWeight = {
    path,
    shape: [...(shape as number[])],
    parametrization: readParametrization(own(entry, 'parametrization'), known, fail),
    factors,
    frozen,
    base: readPrint(own(entry, 'base'), fail),
  };
  expectFit(weight, fail);
  return weight;
}

type Fail = (reason: string) => never;

function readList(value: unknown, what: string, fail: Fail): unknown[] {
  return Array.isArray(value) ? value : fail(`it has no list '${what}'`);
}

/** Names become keys of objects: nothing that an object has of itself. */
function readName(name: unknown, what: string, fail: Fail): string {
  if (typeof name !== 'string' || !/^[\p{L}\p{N}_$.-]{1,128}$/u.test(name)) {
    return fail(`the name of a ${what} must be 1 to 128 letters, digits, '_', '.', '-' or '$'`);
  }
  if (name in {}) return fail(`a ${what} may not be called ${quote(name)}`);
  return name;
}

function readParametrization(json: unknown, known: string, fail: Fail): Parametrization | null {
  if (json === null) return null;
  const name = isRecord(json) ? own(json, '$recipe') : undefined;
  const args = isRecord(json) ? own(json, 'args') : undefined;
  if (typeof name !== 'string' || !Array.isArray(args) || args.length > 8) {
    return fail('its parametrization must be null, or {$recipe: name, args: up to 8 of them}');
  }
  let made: unknown;
  try {
    made = fromJson(json, 'parametrization');
  } catch (error) {
    return fail(`its parametrization ${quote(name)} cannot be made: ${reasonOf(error)}`);
  }
  // What no recipe is known for comes as a function that stands in for it.
  if (typeof made === 'function') {
    return fail(
      `it was trained by ${quote(name)}, which this program does not contain: import the module that defines it with ` +
        `recipe(${quote(name)}, …) before the adapter is read. Without that there is ${known}`,
    );
  }
  return isParametrization(made) ? made : fail(`${quote(name)} makes something that is no parametrization`);
}

function isParametrization(value: unknown): value is Parametrization {
  if (!isRecord(value)) return false;
  const {name, init, delta, compose} = value;
  return (
    typeof name === 'string' &&
    typeof init === 'function' &&
    (typeof delta === 'function' || typeof compose === 'function')
  );
}

/** Errors of others in one line; what a bug's message says helps nobody who reads a file. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'it failed';
  const isAccident =
    error instanceof TypeError && /undefined|null|not a function|not iterable/.test(error.message);
  return isAccident ? 'its options are not of the kinds it takes' : oneLine(error.message);
}

function readPrint(value: unknown, fail: Fail): WeightPrint | null {
  if (value === null) return null;
  const [norm, products] = isRecord(value) ? [own(value, 'norm'), own(value, 'products')] : [];
  const isNumber = (number: unknown): number is number =>
    typeof number === 'number' && Number.isFinite(number);
  if (
    !isNumber(norm) ||
    !Array.isArray(products) ||
    products.length > MAX_PRINT ||
    !products.every(isNumber)
  ) {
    return fail(
      `the print of its base must be null, or {norm, products} with up to ${MAX_PRINT} finite numbers`,
    );
  }
  return {norm, products: [...products]};
}

function readUser(text: string): Record<string, string> {
  const user = parseJson(text, `${UNREADABLE}: its metadata 'user'`);
  if (!isRecord(user)) throw unreadable("its metadata 'user' is no object");
  for (const [key, value] of Object.entries(user)) {
    if (key === '__proto__') throw unreadable("its metadata 'user' may not have the key '__proto__'");
    if (typeof value !== 'string') throw unreadable(`in its metadata 'user', ${quote(key)} is no string`);
  }
  return user as Record<string, string>;
}

/** Axes of at least 1, few of them, and not more numbers than a tensor can have. */
export function isShape(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= MAX_AXES &&
    value.every(axis => Number.isSafeInteger(axis) && axis >= 1) &&
    product(value as number[]) <= MAX_SIZE
  );
}

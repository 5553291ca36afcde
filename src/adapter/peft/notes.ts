import type {Adapter, AdapterWeight, ModelPlace, WeightPrint} from '../adapter.js';
import {type Json, parseStrictJson} from '../json.js';
import {MAX_NAME, MAX_PRINT} from '../limits.js';
import {errorOf} from '../untrusted.js';

/**
 * What `toPeft` writes into the metadata of the safetensors file, where PEFT does not look, so that an adapter comes back
 * as it was as far as the factors allow it.
 *
 *     tfjs-lora.paths     {parameter: path}, in the order of the weights
 *     tfjs-lora.adapter   {generatedBy, metadata, bases: {parameter: {norm, products, shape}}, model?: [{path, shape}]}
 */
export interface Notes {
  /** Of every parameter its path here, in the order of the adapter. */
  readonly paths: ReadonlyMap<string, string>;
  readonly generatedBy?: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Prints of the bases, by parameter, with the shapes of the weights they are of. */
  readonly bases: ReadonlyMap<string, NotedBase>;
  readonly model?: readonly ModelPlace[];
}

interface NotedBase {
  readonly print: WeightPrint;
  readonly shape: string;
}

const PATHS = 'tfjs-lora.paths';
const ADAPTER = 'tfjs-lora.adapter';

/** @param places Every weight in the file and its parameter. */
export function writeNotes(
  {generatedBy, metadata, model}: Adapter,
  places: readonly {readonly parameter: string; readonly weight: AdapterWeight}[],
): Record<string, string> {
  const paths = Object.fromEntries(places.map(({parameter, weight}) => [parameter, weight.path]));
  const bases = Object.fromEntries(
    places.flatMap(({parameter, weight: {base, shape}}) =>
      base ? [[parameter, {norm: base.norm, products: base.products, shape}]] : [],
    ),
  );
  const known = model?.map(({path, shape}) => ({path, shape}));
  return {
    [PATHS]: JSON.stringify(paths),
    [ADAPTER]: JSON.stringify({generatedBy, metadata, bases, ...(known && {model: known})}),
  };
}

/** @throws Error where a note is there and is not as it was written. */
export function readNotes(metadata: Readonly<Record<string, string>>): Notes {
  const paths = textsIn(parsed(metadata, PATHS, 1));
  if (!paths || ![...paths.values()].every(isPath)) {
    throw errorOf(
      `fromPeft: the metadata '${PATHS}' is no object of paths; give \`model\` or \`paths\` and remove it`,
    );
  }
  const note = parsed(metadata, ADAPTER, 4);
  const read = note instanceof Map ? readAdapterNote(note as ReadonlyMap<string, Json>) : null;
  if (!read) throw errorOf(`fromPeft: the metadata '${ADAPTER}' is not what toPeft writes; remove it`);
  return {paths, ...read};
}

/** JSON of the metadata; an empty object where there is none, null where it is damaged. */
function parsed(metadata: Readonly<Record<string, string>>, key: string, depth: number): Json {
  if (!Object.hasOwn(metadata, key)) return new Map();
  try {
    return parseStrictJson(metadata[key]!, depth);
  } catch {
    return null;
  }
}

function readAdapterNote(note: ReadonlyMap<string, Json>): Omit<Notes, 'paths'> | null {
  const generatedBy = note.get('generatedBy') ?? '';
  const metadata = textsIn(note.get('metadata') ?? new Map<string, Json>());
  const bases = note.get('bases') ?? new Map<string, Json>();
  if (typeof generatedBy !== 'string' || !metadata || metadata.has('__proto__') || !(bases instanceof Map))
    return null;
  const prints = [...(bases as ReadonlyMap<string, Json>)].map(
    ([key, value]) => [key, baseIn(value)] as const,
  );
  if (prints.some(([, base]) => base === null)) return null;
  const places = note.has('model') ? placesIn(note.get('model')!) : undefined;
  if (places === null) return null;
  return {
    ...(generatedBy !== '' && {generatedBy}),
    metadata: Object.fromEntries(metadata),
    bases: new Map(prints as [string, NotedBase][]),
    ...(places && {model: places}),
  };
}

const textsIn = (value: Json): ReadonlyMap<string, string> | null =>
  value instanceof Map && [...value.values()].every(text => typeof text === 'string')
    ? (value as ReadonlyMap<string, string>)
    : null;

const isPath = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && value.length <= MAX_NAME;

function baseIn(value: Json): NotedBase | null {
  if (!(value instanceof Map)) return null;
  const [norm, products, shape] = ['norm', 'products', 'shape'].map(key => value.get(key) as Json);
  const isPrint =
    Number.isFinite(norm) &&
    Array.isArray(products) &&
    products.length <= MAX_PRINT &&
    products.every(Number.isFinite);
  if (!isPrint || !Array.isArray(shape)) return null;
  return {print: {norm: norm as number, products: products as number[]}, shape: String(shape)};
}

function placesIn(value: Json): ModelPlace[] | null {
  if (!Array.isArray(value)) return null;
  const isCount = (axis: unknown) => Number.isSafeInteger(axis) && (axis as number) >= 0;
  const places = value.map((place: Json) => {
    const [path, shape] = place instanceof Map ? [place.get('path') as Json, place.get('shape') as Json] : [];
    const isPlace = isPath(path) && Array.isArray(shape) && shape.every(isCount);
    return isPlace ? {path, shape: shape as number[]} : null;
  });
  const isTwice = new Set(places.map(place => place?.path)).size < places.length;
  return isTwice || places.includes(null) ? null : (places as ModelPlace[]);
}

/** An adapter with what was noted of it. */
export function asNoted(weights: readonly {parameter: string; weight: AdapterWeight}[], notes: Notes) {
  const order = new Map([...notes.paths.keys()].map((parameter, i) => [parameter, i]));
  const at = (parameter: string) => order.get(parameter) ?? order.size;
  const sorted = [...weights]
    .sort((x, y) => at(x.parameter) - at(y.parameter))
    .map(({parameter, weight}) => {
      // A note that is of another weight than the tensors says nothing of its base.
      const {print, shape} = notes.bases.get(parameter) ?? {};
      return {...weight, base: print && shape === String(weight.shape) ? print : null};
    });
  const shapes = new Map(notes.model?.map(({path, shape}) => [path, String(shape)]));
  const isThatModel = sorted.every(({path, shape}) => shapes.get(path) === String(shape));
  return {
    weights: sorted,
    ...(notes.model && isThatModel && {model: notes.model}),
    metadata: notes.metadata,
    generatedBy: notes.generatedBy,
  };
}

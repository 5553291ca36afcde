import type {Adapter, AdapterWeight, ModelPlace, WeightPrint} from '../adapter.js';
import {type Json, parseStrictJson} from '../json.js';
import {errorOf} from '../untrusted.js';

/**
 * What `toPeft` writes into the metadata of the safetensors file, where PEFT does not look, so that an adapter comes back
 * as it was as far as the factors allow it.
 *
 *     tfjs-lora.paths     {parameter: path}, in the order of the weights
 *     tfjs-lora.adapter   {generatedBy, metadata, bases: {parameter: {norm, products}}, model?: [{path, shape}]}
 */
export interface Notes {
  /** Of every parameter its path here, in the order of the adapter. */
  readonly paths: ReadonlyMap<string, string>;
  readonly generatedBy?: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** Prints of the bases, by parameter. */
  readonly bases: ReadonlyMap<string, WeightPrint>;
  readonly model?: readonly ModelPlace[];
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
    places.flatMap(({parameter, weight: {base}}) =>
      base ? [[parameter, {norm: base.norm, products: base.products}]] : [],
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
  if (!paths) {
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
  if (typeof generatedBy !== 'string' || !metadata || !(bases instanceof Map)) return null;
  const prints = [...(bases as ReadonlyMap<string, Json>)].map(
    ([key, value]) => [key, printIn(value)] as const,
  );
  if (prints.some(([, print]) => print === null)) return null;
  const places = note.has('model') ? placesIn(note.get('model')!) : undefined;
  if (places === null) return null;
  return {
    ...(generatedBy !== '' && {generatedBy}),
    metadata: Object.fromEntries(metadata),
    bases: new Map(prints as [string, WeightPrint][]),
    ...(places && {model: places}),
  };
}

const textsIn = (value: Json): ReadonlyMap<string, string> | null =>
  value instanceof Map && [...value.values()].every(text => typeof text === 'string')
    ? (value as ReadonlyMap<string, string>)
    : null;

function printIn(value: Json): WeightPrint | null {
  if (!(value instanceof Map)) return null;
  const [norm, products] = [value.get('norm') as Json, value.get('products') as Json];
  if (!Number.isFinite(norm) || !Array.isArray(products) || !products.every(Number.isFinite)) return null;
  return {norm: norm as number, products: products as number[]};
}

function placesIn(value: Json): ModelPlace[] | null {
  if (!Array.isArray(value)) return null;
  const isCount = (axis: unknown) => Number.isSafeInteger(axis) && (axis as number) >= 0;
  const places = value.map((place: Json) => {
    const [path, shape] = place instanceof Map ? [place.get('path') as Json, place.get('shape') as Json] : [];
    const isPlace = typeof path === 'string' && Array.isArray(shape) && shape.every(isCount);
    return isPlace ? {path, shape: shape as number[]} : null;
  });
  return places.includes(null) ? null : (places as ModelPlace[]);
}

/** An adapter with what was noted of it. */
export function asNoted(weights: readonly {parameter: string; weight: AdapterWeight}[], notes: Notes) {
  const order = new Map([...notes.paths.keys()].map((parameter, i) => [parameter, i]));
  const at = (parameter: string) => order.get(parameter) ?? order.size;
  const sorted = [...weights]
    .sort((x, y) => at(x.parameter) - at(y.parameter))
    .map(({parameter, weight}) => ({...weight, base: notes.bases.get(parameter) ?? null}));
  const shapes = new Map(notes.model?.map(({path, shape}) => [path, String(shape)]));
  const isThatModel = sorted.every(({path, shape}) => shapes.get(path) === String(shape));
  return {
    weights: sorted,
    ...(notes.model && isThatModel && {model: notes.model}),
    metadata: notes.metadata,
    generatedBy: notes.generatedBy,
  };
}

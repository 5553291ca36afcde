/** `tfjs-lora inspect`: what is in a model, an adapter or a checkpoint. */
import {io} from '@tensorflow/tfjs-core';
import type {AdapterWeight} from '../adapter/adapter.js';
import {recipeOf} from '../recipe.js';
import {readPlaces} from './arguments.js';
import {chooseBackend} from './backend.js';
import {readSource, type Source} from './source.js';
import {count, kilobytes, percent, table} from './table.js';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora inspect FILE... [options]

Shows what is in a file or folder, a row for each weight:

  an adapter     adapter.safetensors, the folder of a run, a folder that tfjs wrote,
                 a folder of PEFT (adapter_config.json), Keras names in safetensors
  a checkpoint   a folder of saveCheckpoint
  a model        model.json, or its folder
  other factors  safetensors of LoRA factors, whoever wrote them

  --json    print it as JSON

Examples:
  tfjs-lora inspect runs/typescript
  tfjs-lora inspect examples/byte-lm/model.json
`;

/** Runs `tfjs-lora inspect`. */
export async function inspect(args: string[]): Promise<void> {
  const {given, places} = readPlaces(args, {json: 'flag', help: 'flag'} as const);
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  if (places.length === 0) throw new UsageError('inspect takes files or folders: tfjs-lora inspect FILE...');
  // Whether the factors make the weights they say is tried out.
  await chooseBackend();
  const sources: Source[] = [];
  for (const path of places) sources.push(await readSource(path));
  if (given.json) {
    const all = sources.map(asJson);
    process.stdout.write(`${JSON.stringify(all.length === 1 ? all[0] : all, null, 2)}\n`);
    return;
  }
  console.log(sources.map(text).join('\n\n'));
}

/** A source in lines for people. */
function text(source: Source): string {
  const lines = [`File      ${source.path}, ${kilobytes(source.bytes)}`];
  switch (source.kind) {
    case 'adapter': {
      const {adapter, form} = source;
      lines.push(`Adapter   in the form of ${form}, ${adapter.generatedBy}`);
      for (const [key, value] of Object.entries(adapter.metadata)) lines.push(`${key.padEnd(9)} ${value}`);
      lines.push('', adapterTable(adapter.weights));
      break;
    }
    case 'model': {
      const {format = 'layers-model', generatedBy, convertedBy, weightSpecs = []} = source.artifacts;
      const by = [generatedBy, convertedBy].filter(name => name).join(', ');
      lines.push(`Model     ${format}${by ? `, ${by}` : ''}`, '', modelTable(weightSpecs));
      break;
    }
    case 'checkpoint': {
      const {step, weights, still, data} = source.contents;
      lines.push(`Checkpoint of step ${step}`);
      if (data !== null && data !== undefined) lines.push(`data      ${JSON.stringify(data)}`);
      lines.push('', checkpointTable(weights, still.length));
      break;
    }
    case 'factors': {
      const {pairs, others, metadata} = source.described;
      lines.push(`Factors   ${pairs.length} pairs, in a naming that is not this library's`);
      const entries = Object.entries(metadata);
      for (const [key, value] of entries.slice(0, 6)) lines.push(`${key.padEnd(9)} ${shortened(value)}`);
      if (entries.length > 6)
        lines.push(`          and ${entries.length - 6} entries of metadata more: --json`);
      if (pairs.length > 0) lines.push('', pairTable(pairs));
      if (others.length > 0) {
        const shown = others.slice(0, 5).join(', ');
        lines.push(
          '',
          `${others.length} tensors are no half of a pair: ${shown}${others.length > 5 ? ', …' : ''}`,
        );
      }
    }
  }
  return lines.join('\n');
}

const shapeOf = (shape: readonly number[]): string => shape.join(' x ') || 'scalar';
const shortened = (value: string): string => (value.length > 80 ? `${value.slice(0, 79)}…` : value);
const sizeOf = (shape: readonly number[]): number => shape.reduce((size, axis) => size * axis, 1);

/** What a weight of an adapter is trained by, and its numbers. */
function described(weight: AdapterWeight) {
  const {path, shape, parametrization: p, factors, frozen, base} = weight;
  const numbers = (tensors: Readonly<Record<string, {shape: readonly number[]}>>) =>
    Object.values(tensors).reduce((sum, tensor) => sum + sizeOf(tensor.shape), 0);
  const options = (p && recipeOf(p)?.args[0]) as {alpha?: number} | undefined;
  return {
    path,
    shape,
    treatment: p?.name ?? 'whole',
    rank: p?.rank ?? null,
    alpha: typeof options?.alpha === 'number' ? options.alpha : null,
    factors: Object.keys(factors),
    frozen: Object.keys(frozen),
    trained: numbers(factors),
    constants: numbers(frozen),
    of: sizeOf(shape),
    baseNorm: base?.norm ?? null,
  };
}

function adapterTable(weights: readonly AdapterWeight[]): string {
  const all = weights.map(described);
  const rows = all.map(row => [
    row.path,
    shapeOf(row.shape),
    row.rank === null ? row.treatment : `${row.treatment} r=${row.rank}`,
    row.alpha === null ? '' : String(row.alpha),
    count(row.trained),
    row.constants === 0 ? '' : count(row.constants),
    count(row.of),
    row.baseNorm === null ? 'not known' : row.baseNorm.toPrecision(4),
  ]);
  const [trained, of] = [
    all.reduce((sum, row) => sum + row.trained, 0),
    all.reduce((sum, row) => sum + row.of, 0),
  ];
  const head = ['weight', 'shape', 'by', 'alpha', 'trained', 'frozen', 'of', 'base norm'];
  const total = `${all.length} weights, ${count(trained)} numbers trained of ${count(of)} (${percent(trained / of)})`;
  return `${table([head, ...rows], [0, 1, 2])}\n\n${total}`;
}

function modelTable(specs: readonly io.WeightsManifestEntry[]): string {
  const rows = specs.map(({name, shape, dtype, quantization}) => [
    name,
    shapeOf(shape),
    quantization ? `${dtype} as ${quantization.dtype}` : dtype,
    count(sizeOf(shape)),
  ]);
  const numbers = specs.reduce((sum, {shape}) => sum + sizeOf(shape), 0);
  return `${table([['weight', 'shape', 'type', 'numbers'], ...rows], [0, 1, 2])}\n\n${specs.length} weights, ${count(numbers)} numbers`;
}

function checkpointTable(
  weights: readonly {path: string; shape: readonly number[]; trained: number | null}[],
  still: number,
): string {
  const rows = weights.map(({path, shape, trained}) => [
    path,
    shapeOf(shape),
    trained === null ? 'kept' : 'trained',
    count(sizeOf(shape)),
  ]);
  const rest = still > 0 ? `\n\n${still} weights that nothing moves are known by a digest` : '';
  return table([['weight', 'shape', '', 'numbers'], ...rows], [0, 1, 2]) + rest;
}

function pairTable(pairs: Extract<Source, {kind: 'factors'}>['described']['pairs']): string {
  const rows = pairs.map(({module, kind, rank, in: inputs, out, dtype, norm}) => [
    module,
    kind,
    String(rank),
    count(inputs),
    count(out),
    dtype,
    norm.toPrecision(4),
  ]);
  return table([['module', 'kind', 'rank', 'in', 'out', 'type', 'norm'], ...rows], [0, 1]);
}

function asJson(source: Source): object {
  const {path, bytes, kind} = source;
  const common = {path, bytes, kind};
  switch (source.kind) {
    case 'adapter': {
      const {form, adapter} = source;
      const {generatedBy, metadata} = adapter;
      return {...common, form, generatedBy, metadata, weights: adapter.weights.map(described)};
    }
    case 'model': {
      const {format, generatedBy, convertedBy, weightSpecs} = source.artifacts;
      return {...common, format, generatedBy, convertedBy, weights: weightSpecs};
    }
    case 'checkpoint': {
      const {step, weights, data} = source.contents;
      return {...common, step, data, weights};
    }
    case 'factors':
      return {...common, ...source.described};
  }
}

import {errorOf} from '../untrusted.js';
import {openSafetensors, type StoredTensor} from '../safetensors.js';
import type {PeftConfig} from './config.js';
import {FACTOR_NAMES, factorPart} from './layouts.js';
import {isPart, PARTS, PREFIX, refuse} from './mapping.js';

/** The tensors of each module, by what they are there: `lora_A`, `bias`, `base_layer.weight`. */
export type Parts = ReadonlyMap<string, StoredTensor>;

const COUNTED = 'num_batches_tracked';
const SUFFIXES = [...FACTOR_NAMES, 'base_layer.weight', 'base_layer.bias', ...PARTS.keys(), COUNTED];
const SUFFIX = new RegExp(`^(.+?)\\.(${SUFFIXES.map(name => name.replaceAll('.', '\\.')).join('|')})$`);

/** The names of `state_dict()` itself, of which `save_pretrained` leaves out the adapter's own name. */
const RAW = /\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|modules_to_save)\.default(?=\.|$)/;
const withoutAdapter = (name: string): string =>
  name.replace(RAW, (_, part: string) => (part === 'modules_to_save' ? '' : `.${part}`));

/** Which modules a file has, and of which tensors; throws for what is not understood or was not meant. */
export function modulesOf(
  bytes: Uint8Array,
  config: PeftConfig,
): {modules: ReadonlyMap<string, Parts>; metadata: Readonly<Record<string, string>>} {
  const {entries, metadata, read} = openSafetensors(bytes);
  const modules = new Map<string, Map<string, StoredTensor>>();
  for (const entry of entries) {
    const name = withoutAdapter(entry.name);
    const match = name.startsWith(PREFIX) ? SUFFIX.exec(name.slice(PREFIX.length)) : null;
    if (!match || /\.lora_[AB]$|\.base_layer$/.test(match[1]!)) {
      throw errorOf(
        `fromPeft: the tensor '${entry.name}' [${entry.shape}] is not understood; expected are ${PREFIX}<module>.lora_A.weight, ` +
          'lora_B.weight, lora_embedding_A, lora_embedding_B, lora_magnitude_vector, and weight and bias of ' +
          'modules_to_save, as save_pretrained writes them',
      );
    }
    const [, module, suffix] = match as unknown as [string, string, string];
    // PyTorch counts batches, which has no use where they have none to wait for.
    if (suffix === COUNTED) continue;
    const isFactor = FACTOR_NAMES.includes(suffix);
    const part = isFactor ? factorPart(suffix) : suffix.replace(/^base_layer\.bias$/, 'bias');
    const tensor = read(entry);
    if (!tensor || tensor.values instanceof Int32Array)
      return refuse(module, `has ${suffix} as ${entry.dtype}; it must be floats`);
    if (isPart(part) && !isMeant(module, part, config)) {
      refuse(
        module,
        `has a whole ${part}, and adapter_config.json names it neither in modules_to_save nor by bias; where PEFT saved ` +
          'it because the vocabulary has grown, save with save_embedding_layers=False or name it in modules_to_save',
      );
    }
    const parts = modules.get(module) ?? new Map<string, StoredTensor>();
    if (parts.has(part)) refuse(module, `has two tensors for ${part}`);
    modules.set(module, parts.set(part, tensor));
  }
  return {modules, metadata};
}

/** `bias: 'all'` saves whatever has "bias" in its name, T5's relative_attention_bias too. */
function isMeant(module: string, part: string, {bias, isSaved}: PeftConfig): boolean {
  if (part === 'bias' && bias !== 'none') return true;
  return (bias === 'all' && module.includes('bias')) || isSaved(module);
}

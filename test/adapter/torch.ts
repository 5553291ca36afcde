/**
 * A reader of PEFT's files in PyTorch's conventions, for tests: it shares no code with the library. Weights are
 * `[out, in, …window]`, an embedding `[vocab, dim]`, all in float64.
 */
export interface Torch {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

type Header = Record<string, {dtype: string; shape: number[]; data_offsets: [number, number]}>;

export function readTensors(bytes: Uint8Array): Map<string, Torch & {dtype: string}> {
  const buffer = Buffer.from(bytes);
  const length = Number(buffer.readBigUInt64LE(0));
  const header = JSON.parse(buffer.subarray(8, 8 + length).toString('utf8')) as Header;
  delete header['__metadata__'];
  const sizes: Record<string, number> = {F32: 4, I32: 4, F16: 2, BF16: 2};
  const read = (at: number, dtype: string): number => {
    if (dtype === 'F32') return buffer.readFloatLE(at);
    if (dtype === 'I32') return buffer.readInt32LE(at);
    const bits = buffer.readUInt16LE(at);
    const [exponents, mantissas, bias] = dtype === 'F16' ? [32, 1024, 15] : [256, 128, 127];
    const [exponent, mantissa] = [Math.floor(bits / mantissas) % exponents, bits % mantissas];
    const sign = bits >= 0x8000 ? -1 : 1;
    if (exponent === 0) return (sign * mantissa * 2 ** (1 - bias)) / mantissas;
    return sign * (1 + mantissa / mantissas) * 2 ** (exponent - bias);
  };
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => {
        const size = sizes[dtype] ?? NaN;
        const values = Float64Array.from({length: (to - from) / size}, (_, i) =>
          read(8 + length + from + size * i, dtype),
        );
        return [name, {shape, values, dtype}];
      },
    ),
  );
}

interface Config {
  r: number;
  lora_alpha: number;
  rank_pattern: Record<string, number>;
  alpha_pattern: Record<string, number>;
  use_rslora: boolean;
  use_dora: boolean;
  fan_in_fan_out: boolean;
  bias?: 'none' | 'all' | 'lora_only';
  target_modules?: string[] | string;
  modules_to_save?: string[] | null;
}

/** `model.named_modules()`: every module and whatever holds one. */
function namedModules(parameters: Iterable<string>): Set<string> {
  const modules = new Set<string>();
  for (const parameter of parameters) {
    const parts = parameter.split('.').slice(0, -1);
    parts.forEach((_, i) => modules.add(parts.slice(0, i + 1).join('.')));
  }
  return modules;
}

/**
 * The keys that PEFT looks for in a file, from the model and the config alone: it puts LoRA layers where `target_modules`
 * says, then copies whatever `modules_to_save` says with everything inside, and takes each key of that from the file.
 */
function lookedFor(
  config: Config,
  base: ReadonlyMap<string, Torch>,
  embeddings: ReadonlySet<string>,
): Set<string> {
  const PREFIX = 'base_model.model.';
  const {target_modules: targets = [], modules_to_save: names} = config;
  const isTarget = (module: string): boolean =>
    typeof targets === 'string'
      ? new RegExp(`^(?:${targets})$`).test(module)
      : targets.some(target => module === target || module.endsWith(`.${target}`));
  const state = new Set([...base.keys()]);
  const needed = new Set<string>();
  for (const module of namedModules(base.keys())) {
    if (!isTarget(module)) continue;
    const weight = base.get(`${module}.weight`);
    if (!weight || weight.shape.length < 2) throw new Error(`Target module ${module} is not supported`);
    for (const part of ['weight', 'bias']) {
      if (state.delete(`${module}.${part}`)) state.add(`${module}.base_layer.${part}`);
    }
    const own = embeddings.has(module)
      ? ['lora_embedding_A', 'lora_embedding_B']
      : ['lora_A.weight', 'lora_B.weight'];
    for (const key of [...own, ...(config.use_dora ? ['lora_magnitude_vector'] : [])]) {
      state.add(`${module}.${key}`);
      needed.add(PREFIX + `${module}.${key}`);
    }
  }
  const all = [...state].map(key => PREFIX + key);
  for (const module of namedModules(all)) {
    if (!(names ?? []).some(name => module.endsWith(name))) continue;
    for (const key of all) if (key.startsWith(`${module}.`)) needed.add(key);
  }
  return needed;
}

/** The first pattern that matches a whole end of the name, as `re.match(rf"(.*\.)?({key})$", module)` does. */
function lookUp(patterns: Record<string, number>, module: string, otherwise: number): number {
  for (const [pattern, value] of Object.entries(patterns)) {
    if (new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(module)) return value;
  }
  return otherwise;
}

/**
 * The weights of a PyTorch model once the adapter is merged: `merge_and_unload`.
 *
 * @param base All parameters and buffers of the model, also those the adapter has nothing for.
 * @param embeddings The modules that are `nn.Embedding`. Default: those with embedding factors in the file.
 */
export function merged(
  files: {'adapter_config.json': string; 'adapter_model.safetensors': Uint8Array},
  base: ReadonlyMap<string, Torch>,
  embeddings?: ReadonlySet<string>,
): Map<string, Torch> {
  const config = JSON.parse(files['adapter_config.json']) as Config;
  const tensors = readTensors(files['adapter_model.safetensors']);
  const result = new Map(base);
  const used = new Set<string>();
  const inFile = [...tensors.keys()].flatMap(
    name => /^base_model\.model\.(.*)\.lora_embedding_A$/.exec(name)?.[1] ?? [],
  );
  const needed = lookedFor(config, base, embeddings ?? new Set(inFile));
  for (const key of needed) if (!tensors.has(key)) throw new Error(`KeyError: '${key}'`);
  for (const [name, tensor] of tensors) {
    const short = name.slice('base_model.model.'.length).replace('.base_layer', '');
    if (/lora_/.test(short)) continue;
    if (!needed.has(name) && (config.bias !== 'all' || !short.includes('bias')))
      throw new Error(`${name} is for a module that was not copied`);
    if (String(base.get(short)?.shape) !== String(tensor.shape))
      throw new Error(`${short} [${tensor.shape}]`);
    result.set(short, tensor);
    used.add(name);
  }
  for (const [name, A] of tensors) {
    const match = /^base_model\.model\.(.*)\.lora_(embedding_)?A(\.weight)?$/.exec(name);
    if (!match) continue;
    if (!needed.has(name)) throw new Error(`${name} is for a module without a LoRA layer`);
    const [, module, isEmbedding] = match as unknown as [string, string, string | undefined];
    const nameOfB = isEmbedding ? name.replace(/A$/, 'B') : name.replace(/A\.weight$/, 'B.weight');
    const B = tensors.get(nameOfB)!;
    const r = lookUp(config.rank_pattern, module, config.r);
    const alpha = lookUp(config.alpha_pattern, module, config.lora_alpha);
    const scale = config.use_rslora ? alpha / Math.sqrt(r) : alpha / r;
    const W = base.get(`${module}.weight`)!;
    if (A.shape[0] !== r || B.shape[1] !== r)
      throw new Error(`${module}: rank ${r}, [${A.shape}] [${B.shape}]`);
    const [outs, ins] = [B.shape[0]!, A.values.length / r];
    const isTurned = isEmbedding !== undefined || (config.fan_in_fan_out && W.shape.length === 2);
    const shape = isTurned ? [ins, outs] : [outs, ...A.shape.slice(1)];
    if (String(W.shape) !== String(shape)) throw new Error(`${module}: [${W.shape}] and [${shape}]`);
    const at = (o: number, i: number) => (isTurned ? i * outs + o : o * ins + i);
    const values = Float64Array.from(W.values);
    for (let o = 0; o < outs; o++) {
      for (let i = 0; i < ins; i++) {
        for (let t = 0; t < r; t++)
          values[at(o, i)]! += scale * B.values[o * r + t]! * A.values[t * ins + i]!;
      }
    }
    used.add(name).add(nameOfB);
    if (config.use_dora) {
      const nameOfM = `base_model.model.${module}.lora_magnitude_vector`;
      const m = tensors.get(nameOfM)!;
      const wanted = A.shape.length > 2 ? [1, outs, ...A.shape.slice(2).map(() => 1)] : [outs];
      if (String(m.shape) !== String(wanted)) throw new Error(`${module}: magnitude [${m.shape}]`);
      for (let o = 0; o < outs; o++) {
        let norm = 0;
        for (let i = 0; i < ins; i++) norm += values[at(o, i)]! ** 2;
        for (let i = 0; i < ins; i++) values[at(o, i)]! *= m.values[o]! / Math.sqrt(norm);
      }
      used.add(nameOfM);
    }
    result.set(`${module}.weight`, {shape: W.shape, values});
  }
  for (const name of tensors.keys()) if (!used.has(name)) throw new Error(`${name} was not read`);
  return result;
}

/** A weight of tfjs as PyTorch holds it. */
export function asTorch(path: string, shape: readonly number[], values: ArrayLike<number>): Torch {
  if (shape.length === 1 || /embeddings$/.test(path)) return {shape, values: Float64Array.from(values)};
  const [ins, outs] = shape.slice(-2) as [number, number];
  const window = shape.slice(0, -2);
  const size = window.reduce((product, axis) => product * axis, 1);
  const turned = new Float64Array(size * ins * outs);
  for (let o = 0; o < outs; o++) {
    for (let i = 0; i < ins; i++) {
      for (let s = 0; s < size; s++) turned[(o * ins + i) * size + s] = values[(s * ins + i) * outs + o]!;
    }
  }
  return {shape: [outs, ins, ...window], values: turned};
}

/** The largest difference, over the largest number of the first. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let [most, size] = [0, 1e-30];
  for (let i = 0; i < a.length; i++) {
    most = Math.max(most, Math.abs(a[i]! - b[i]!));
    size = Math.max(size, Math.abs(a[i]!));
    if (Number.isNaN(a[i]! - b[i]!)) return NaN;
  }
  return most / size;
}

import type {io} from '@tensorflow/tfjs-core';
import type {Adapter, HostTensor} from './adapter.js';
import {product} from './host.js';
import {known} from './known.js';
import {expectSpecs, weightBytes} from './specs.js';
import {errorOf, isRecord, own, quote} from './untrusted.js';
import {fromParts, isShape, type Parts, toParts} from './parts.js';

const FORMAT = 'tfjs-lora';
/** What a checkpoint is stored as, which is no adapter. */
export const CHECKPOINT = 'tfjs-lora-checkpoint';

/**
 * An adapter in the form in which tfjs saves models, so that every scheme and handler of tfjs stores it, and
 * `tf.io.listModels`, `copyModel`, `moveModel` and `removeModel` know it. The weights are its factors and frozen parts;
 * what else an adapter is stands in `userDefinedMetadata.tfjsLora`. There is no topology: it is `{}`, for some of tfjs's
 * stores do not bear its absence.
 *
 * @throws When it could not be read again, as `encodeAdapter`.
 */
export function toArtifacts(adapter: Adapter): io.ModelArtifacts {
  const {tensors, metadata} = toParts(adapter);
  const size = [...tensors.values()].reduce((sum, {values}) => sum + values.byteLength, 0);
  const data = new Uint8Array(size);
  let offset = 0;
  for (const {values} of tensors.values()) {
    data.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    offset += values.byteLength;
  }
  return {
    modelTopology: {},
    format: FORMAT,
    generatedBy: adapter.generatedBy,
    convertedBy: null,
    weightSpecs: [...tensors].map(([name, {shape, values}]) => ({
      name,
      shape: [...shape],
      dtype: values instanceof Int32Array ? ('int32' as const) : ('float32' as const),
    })),
    weightData: data.buffer,
    userDefinedMetadata: {tfjsLora: metadata},
  };
}

/**
 * The adapter that `toArtifacts` wrote, from whatever store gave it back.
 *
 * @throws When it is a model, or an adapter that is damaged: one line that says what is wrong, and where.
 */
export function fromArtifacts(artifacts: io.ModelArtifacts): Adapter {
  if (!isRecord(artifacts)) throw unreadable('there is nothing where its artifacts should be');
  const {format, modelTopology, userDefinedMetadata: user} = artifacts;
  const metadata = isRecord(user) ? own(user, 'tfjsLora') : undefined;
  if (metadata === undefined && format !== FORMAT) {
    if (format === CHECKPOINT) {
      throw errorOf('this is a checkpoint, not an adapter: load it with loadCheckpoint');
    }
    const hasTopology =
      modelTopology instanceof ArrayBuffer ||
      (isRecord(modelTopology) && Object.keys(modelTopology).length > 0);
    if (hasTopology || (typeof format === 'string' && /-model$/.test(format))) {
      throw errorOf('this is a model, not an adapter: load it with tf.loadLayersModel or tf.loadGraphModel');
    }
  }
  if (!isRecord(metadata)) {
    throw unreadable('its userDefinedMetadata has no tfjsLora: was it written by something else?');
  }
  return fromParts({tensors: readTensors(artifacts), metadata: metadata as Parts['metadata']}, known);
}

const UNREADABLE = 'not a readable adapter';
const unreadable = (reason: string) => errorOf(`${UNREADABLE}: ${reason}`);

function readTensors({weightSpecs: specs, weightData}: io.ModelArtifacts): Map<string, HostTensor> {
  const bytes = weightBytes(UNREADABLE, weightData);
  if (Array.isArray(specs) && specs.some(spec => spec?.quantization !== undefined)) {
    throw unreadable('a tensor of its weightSpecs is quantized, and an adapter is not');
  }
  expectSpecs(UNREADABLE, specs, bytes.length);
  const tensors = new Map<string, HostTensor>();
  let offset = 0;
  for (const {name, shape, dtype} of specs) {
    const fail = (reason: string) => unreadable(`the tensor ${quote(name)} of its weightSpecs ${reason}`);
    if (dtype !== 'float32' && dtype !== 'int32') throw fail("is neither 'float32' nor 'int32'");
    if (!isShape(shape)) throw fail('has a shape that is no shape');
    // A copy, which begins where the numbers need it to.
    const {buffer} = bytes.slice(offset, (offset += 4 * product(shape)));
    tensors.set(name, {shape, values: dtype === 'int32' ? new Int32Array(buffer) : new Float32Array(buffer)});
  }
  return tensors;
}

import type {Tensor} from '@tensorflow/tfjs-core';
import {io, util} from '@tensorflow/tfjs-core';
import {bytesPerNumber} from '../dtypes.js';

/**
 * The files of a GraphModel with some weights as they are now. What did not change keeps its bytes, quantized ones too;
 * what changed is written as float32, since another number would not be the one that was trained.
 *
 * @param moved The weights that are not what the files say, by the name of their node.
 * @param weights All weights by the name of their node, for a model that was streamed and has no bytes any more.
 */
export async function mergedArtifacts(
  artifacts: io.ModelArtifacts,
  moved: ReadonlyMap<string, Tensor>,
  weights: () => ReadonlyMap<string, Tensor>,
): Promise<io.ModelArtifacts> {
  const {getWeightStream: _, ...rest} = artifacts;
  if (!artifacts.weightData || !artifacts.weightSpecs) {
    const {data, specs} = await io.encodeWeights(
      Array.from(weights(), ([name, tensor]) => ({name, tensor}) as never),
    );
    return {...rest, weightSpecs: specs, weightData: data};
  }
  const bytes = io.CompositeArrayBuffer.join(artifacts.weightData as ArrayBuffer | ArrayBuffer[]);
  const pieces: ArrayBuffer[] = [];
  const weightSpecs: io.WeightsManifestEntry[] = [];
  let offset = 0;
  for (const spec of artifacts.weightSpecs) {
    const length = byteLength(spec, bytes, offset);
    const tensor = moved.get(spec.name);
    if (tensor) {
      const {quantization: __, ...plain} = spec;
      weightSpecs.push({...plain, dtype: 'float32'});
      pieces.push(new Float32Array(await tensor.data()).buffer as ArrayBuffer);
    } else {
      weightSpecs.push(spec);
      pieces.push(bytes.slice(offset, offset + length));
    }
    offset += length;
  }
  return {...rest, weightSpecs, weightData: io.CompositeArrayBuffer.join(pieces)};
}

/** How many bytes a weight takes, beginning at `offset`. */
function byteLength(spec: io.WeightsManifestEntry, bytes: ArrayBuffer, offset: number): number {
  const size = util.sizeFromShape(spec.shape);
  if (spec.dtype === 'string') {
    // Each string is its length, in four bytes, and its bytes.
    const view = new DataView(bytes);
    let end = offset;
    for (let i = 0; i < size; i++) end += 4 + view.getUint32(end, true);
    return end - offset;
  }
  const each = bytesPerNumber(spec.quantization?.dtype ?? spec.dtype);
  if (!each) throw new Error(`${spec.name} is ${spec.dtype}, which the files of a GraphModel do not hold`);
  return size * each;
}

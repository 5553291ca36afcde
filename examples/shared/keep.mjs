// Saves what a training made: the adapter, some kilobytes, and the whole model with the adapter merged into it.
import {mkdirSync, statSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {encodeAdapter} from '../../dist/adapter/bytes.js';

/** Writes adapter.safetensors and model/ into the folder `out`; gives their sizes in bytes. */
export async function keep(out, model, optimizer) {
  const folder = join(out, 'model');
  mkdirSync(folder, {recursive: true});
  const adapter = join(out, 'adapter.safetensors');
  writeFileSync(adapter, await encodeAdapter(optimizer));
  await model.save(
    tf.io.withSaveHandler(async ({modelTopology, weightSpecs, weightData, format, generatedBy}) => {
      const weightsManifest = [{paths: ['weights.bin'], weights: weightSpecs}];
      const weights = tf.io.concatenateArrayBuffers([weightData].flat());
      writeFileSync(join(folder, 'weights.bin'), new Uint8Array(weights));
      writeFileSync(
        join(folder, 'model.json'),
        JSON.stringify({modelTopology, format, generatedBy, weightsManifest}),
      );
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  const size = file => statSync(file).size;
  return {
    adapter: size(adapter),
    model: size(join(folder, 'weights.bin')) + size(join(folder, 'model.json')),
  };
}

// What tfjs alone does with an embedding on its wasm backend, and what it does through the library.
import * as tf from '@tensorflow/tfjs';
import {loraAdam} from 'tfjs-lora';

/** Prints whether each optimizer trains an embedding; to be called before `tfjs-lora/wasm` is imported. */
export async function showStockWasm() {
  const model = tf.sequential({
    layers: [
      tf.layers.embedding({inputDim: 500, outputDim: 16, inputLength: 8}),
      tf.layers.globalAveragePooling1d(),
      tf.layers.dense({units: 2, activation: 'softmax'}),
    ],
  });
  const x = tf.ones([4, 8], 'int32');
  const y = tf.ones([4, 1]);
  for (const [name, optimizer] of [
    ['tf.train.adam', tf.train.adam(1e-3, 0.9, 0.999, 1e-7)],
    ['loraAdam', loraAdam(0.01, {rank: 2})],
  ]) {
    model.compile({optimizer, loss: 'sparseCategoricalCrossentropy'});
    try {
      const loss = await model.trainOnBatch(x, y);
      console.log(`An embedding on stock wasm by ${name}: trains, loss ${loss.toFixed(3)}`);
    } catch (error) {
      console.log(`An embedding on stock wasm by ${name}: ${error.message.split('\n')[0]}`);
    }
    optimizer.dispose();
  }
  tf.dispose([x, y]);
  model.dispose();
}

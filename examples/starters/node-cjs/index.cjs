const tf = require('@tensorflow/tfjs');
const {loraAdam} = require('tfjs-lora'); // Node before 20.19 or 22.12: await import('tfjs-lora')
const {saveAdapter} = require('tfjs-lora/adapter');

async function main() {
  // Your model: await tf.loadLayersModel('https://…/model.json'). Here a new one, and numbers to learn.
  const model = tf.sequential({
    layers: [
      tf.layers.dense({units: 64, activation: 'relu', inputShape: [16], name: 'hidden'}),
      tf.layers.dense({units: 8, name: 'out'}),
    ],
  });
  const x = tf.randomNormal([256, 16]);
  const y = tf.matMul(x, tf.randomNormal([16, 8]));

  model.compile({optimizer: loraAdam(0.02, {rank: 4}), loss: 'meanSquaredError'});
  const loss = () => model.evaluate(x, y).dataSync()[0].toFixed(3);

  console.log('loss before', loss());
  await model.fit(x, y, {epochs: 10, verbose: 0});
  console.log('loss after', loss());

  await saveAdapter(model, 'file://adapter.safetensors');
  console.log('saved adapter.safetensors');
}

main();

// A network of the form of tfjs's model of abalones, with random weights.
import * as tf from '@tensorflow/tfjs';

/** 8-50-50-1 with sigmoids; as there, normal kernels with the deviation of Glorot. */
export const network = seed =>
  tf.sequential({
    layers: [50, 50, 1].map((units, i) =>
      tf.layers.dense({
        units,
        name: `dense${i + 1}`,
        activation: i < 2 ? 'sigmoid' : 'linear',
        kernelInitializer: tf.initializers.glorotNormal({seed: 3 * seed + i + 1}),
        ...(i === 0 && {inputShape: [8]}),
      }),
    ),
  });

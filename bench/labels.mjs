/** What people read for a method. */
export const labels = {
  adam: 'tf.train.adam on all weights',
  layers: 'LoRA layers written by hand',
  dense: 'tfjs-lora, dense gradients',
  tapped: 'tfjs-lora',
  floor: 'floor',
  moving: 'floor, weights in new tensors',
};

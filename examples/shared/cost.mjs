// What an adapter costs beside the whole model.
import {count, kilobytes, percent} from './format.mjs';

/** The numbers that an optimizer of this library trains of a model. */
export const trainedBy = (optimizer, model) =>
  optimizer.explain(model, null).reduce((sum, {trained}) => sum + trained, 0);

/**
 * A table of costs.
 * @param {{all: number, trained: number}} parameters numbers in the model, and trained ones
 * @param {{model: number, adapter: number}} sizes of the files in bytes
 */
export const costTable = (parameters, sizes) => [
  ['Cost', 'model', 'LoRA', 'share'],
  [
    'Trained numbers',
    ...[parameters.all, parameters.trained].map(count),
    percent(parameters.trained / parameters.all),
  ],
  [
    'Size on disk (model; adapter)',
    ...[sizes.model, sizes.adapter].map(kilobytes),
    percent(sizes.adapter / sizes.model),
  ],
];

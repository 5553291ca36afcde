// Ways to train one model on a table, each at the rate that suits it.
import {trainedBy} from '../cost.mjs';
import {count} from '../format.mjs';
import {progressLine} from '../progress.mjs';
import {tryRates} from '../rates.mjs';
import {error, train} from './regression.mjs';

/** For the choice of rates alone. */
const tuningSeed = 100;

/**
 * Every method on the same steps and rows: the rate by the validation rows with a seed of its own, then, at that rate,
 * the seeds from 0, measured on the held-out rows.
 * @param {Record<string, {rates: number[], fresh?: boolean, start: Function}>} methods `start(model, settings)` gives
 *   `{optimizer, rate}`, the rate where the optimizer has no schedule of its own; `fresh`: on random weights
 * @param models.make the trained model; models.network one with random weights from a seed
 */
export async function compare(methods, {make, network}, table, settings) {
  const attempt = async (name, rate, seed) => {
    const {start, fresh = false} = methods[name];
    const model = fresh ? network(seed) : await make();
    const {optimizer, rate: schedule} = start(model, {...settings, rate, seed});
    const onStep = progressLine(`${name}, rate ${rate}, seed ${seed}: `);
    await train(model, optimizer, table, {...settings, seed, rate: schedule, onStep});
    const result = {
      validation: error(model, table, table.validation),
      test: error(model, table, table.test),
      trained:
        'explain' in optimizer
          ? trainedBy(optimizer, model)
          : model.trainableWeights.reduce((sum, {shape}) => sum + shape.reduce((a, b) => a * b, 1), 0),
    };
    optimizer.dispose();
    model.dispose();
    return result;
  };
  const rows = [];
  for (const [method, {rates}] of Object.entries(methods)) {
    const {best, tried} = await tryRates(rates, async rate => {
      const result = await attempt(method, rate, tuningSeed);
      return {...result, score: -result.validation};
    });
    const test = [];
    for (let seed = 0; seed < settings.seeds; seed++)
      test.push((await attempt(method, best.rate, seed)).test);
    rows.push({
      ...{method, rate: best.rate, validation: best.validation, trained: best.trained, test},
      tried: tried.map(({rate, validation}) => ({rate, validation})),
    });
  }
  return rows;
}

/** What `compare` found, as a table in dollars: the mean over the seeds and their standard deviation. */
export const compareTable = rows => [
  ['Method', 'held out, RMSE', '±', 'trained', 'rate', 'seeds'],
  ...rows.map(({method, test, trained, rate}) => {
    const mean = test.reduce((sum, value) => sum + value, 0) / test.length;
    const squares = test.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const deviation = Math.sqrt(squares / Math.max(1, test.length - 1));
    const [middle, spread] = [mean, deviation].map(value => count(Math.round(value)));
    return [method, middle, spread, count(trained), String(rate), String(test.length)];
  }),
];

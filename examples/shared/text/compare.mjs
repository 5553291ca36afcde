// Ways to train one classifier of sentences, each at the rate that suits it.
import {trainedBy} from '../cost.mjs';
import {percent} from '../format.mjs';
import {tryRates} from '../rates.mjs';
import {accuracy} from './classifier.mjs';
import {train} from './training.mjs';

/**
 * Every method on the same steps and sentences: the rate by the validation part with the first seed, then, at that
 * rate, the other seeds.
 * @param {Record<string, {rates: number[], optimizer: (settings: {rate: number, seed: number}) => object}>} methods
 * @param start gives a new model for a seed
 * @param settings.seeds how many
 */
export async function compare(methods, start, {base, target}, settings) {
  const attempt = async (method, rate, seed, label) => {
    const model = start(seed);
    const optimizer = methods[method].optimizer({...settings, rate, seed});
    await train(model, optimizer, target, {...settings, seed, label});
    const result = {
      validation: await accuracy(model, target.validation, target.labels),
      test: await accuracy(model, target.test, target.labels),
      base: settings.newHead ? null : await accuracy(model, base.test, base.labels),
      trained: trainedBy(optimizer, model),
    };
    optimizer.dispose();
    model.dispose();
    return result;
  };
  const rows = [];
  for (const [method, {rates}] of Object.entries(methods)) {
    const {best, tried} = await tryRates(rates, async rate => {
      const result = await attempt(method, rate, settings.seed, `${method}, rate ${rate}: `);
      console.log(`${method}, rate ${rate}: ${percent(result.validation)} on the validation part`);
      return {...result, score: result.validation};
    });
    const runs = [best];
    for (let seed = settings.seed + 1; seed < settings.seed + settings.seeds; seed++)
      runs.push(await attempt(method, best.rate, seed, `${method}, seed ${seed}: `));
    rows.push({
      ...{method, rate: best.rate, validation: best.validation, trained: best.trained},
      test: runs.map(run => run.test),
      base: runs.map(run => run.base),
      tried: tried.map(({rate, validation}) => ({rate, validation})),
    });
  }
  return rows;
}

/** What `compare` found, as a table. */
export function compareTable(rows, base) {
  const isKept = rows.some(row => row.base[0] !== null);
  const heading = ['Method', 'rate', 'validation', 'held out, each seed', 'trained'];
  return [
    [...heading, ...(isKept ? [base] : [])],
    ...rows.map(({method, rate, validation, test, trained, base}) => [
      ...[method, String(rate), percent(validation), test.map(percent).join(', ')],
      trained.toLocaleString('en-US'),
      ...(isKept ? [base.map(percent).join(', ')] : []),
    ]),
  ];
}

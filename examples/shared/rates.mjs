// The learning rate that suits a method, by what it makes of validation data.

/**
 * Tries each rate. While the best is the lowest or the highest of them, it tries one three times as low or as high, up
 * to `more` times: a best rate at the edge may not be the best.
 * @template R
 * @param {number[]} rates
 * @param {(rate: number) => Promise<R & {score: number}>} attempt trains at the rate; the larger `score` is the better;
 *   NaN, of a training that went to pieces, is the worst
 * @returns {Promise<{best: R & {rate: number}, tried: (R & {rate: number})[]}>} all of them by rate
 */
export async function tryRates(rates, attempt, {more = 3} = {}) {
  const tried = [];
  const worth = ({score}) => (Number.isNaN(score) ? -Infinity : score);
  const take = async rate => {
    tried.push({rate, ...(await attempt(rate))});
    tried.sort((a, b) => a.rate - b.rate);
  };
  for (const rate of rates) await take(rate);
  const best = () => tried.reduce((a, b) => (worth(b) > worth(a) ? b : a));
  for (let i = 0; i < more; i++) {
    const {rate} = best();
    if (rate !== tried[0].rate && rate !== tried.at(-1).rate) break;
    await take(Number((rate === tried[0].rate ? rate / 3 : rate * 3).toPrecision(2)));
  }
  return {best: best(), tried};
}

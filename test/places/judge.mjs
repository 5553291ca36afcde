// What the numbers of a place say beside those of the cpu backend in Node.
import {exceptions, known, tolerances} from './tolerances.mjs';

/** `max |actual - expected| / max |expected|`; infinite where a number is not finite or lengths differ. */
export function deviation(actual, expected) {
  if (actual.length !== expected.length) return Infinity;
  let [worst, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    // NaN, which JSON writes as null, is not small.
    if (!Number.isFinite(difference) || actual[i] === null) return Infinity;
    worst = Math.max(worst, difference);
    size = Math.max(size, Math.abs(expected[i]));
  }
  return size === 0 ? worst : worst / size;
}

/** Of each loss by itself. */
const lossDeviation = (actual, expected) =>
  Math.max(...expected.map((value, i) => deviation([actual[i] ?? null], [value])));

/**
 * A place as the page tells it: for every model and way `{trains, deviation, left}` or `{error}`, for every feature
 * `{deviation, left}` or `{error}`; and complaints about what is not as it should be.
 */
export function judge(place, result, base) {
  if (!result.scenarios) {
    const {skipped, failed} = result;
    return skipped ? {skipped, complaints: []} : {failed, complaints: [failed]};
  }
  const complaints = [];
  const check = (name, way, found) => {
    const limit = exceptions[name] ?? tolerances[place.backend].limit;
    const fault = known.find(
      ({places, names, ways}) => places(place) && names.test(name) && (!ways || !way || ways.includes(way)),
    );
    const wrong = complaint(found, limit, fault);
    if (wrong) complaints.push(`${name}${way ? `, ${way}` : ''}: ${wrong}`);
    return found;
  };
  const models = mapEntries(result.scenarios, (name, ways) =>
    mapEntries(ways, (way, outcome) =>
      check(name, way, judgeTraining(way, outcome, base.scenarios[name]?.[way])),
    ),
  );
  const features = mapEntries(result.features, (name, outcome) =>
    check(name, undefined, judgeFeature(outcome, base.features[name])),
  );
  const {description, warnings, version} = result;
  return {version, description, warnings, models, features, complaints};
}

function judgeTraining(way, outcome, expected) {
  if (outcome.error) return {error: outcome.error};
  const {losses, changes, left} = outcome;
  const trains =
    [...losses, ...changes].every(Number.isFinite) && (way === 'plain' || losses.at(-1) < losses[0]);
  const found = Math.max(lossDeviation(losses, expected.losses), deviation(changes, expected.changes));
  // One step of plain tfjs is there to see whether it can; its optimizer makes its moments in it.
  const stays = way === 'plain' ? left.disposed : Math.max(left.steps, left.buffers, left.disposed);
  return {trains, deviation: rounded(found), left: stays};
}

function judgeFeature(outcome, expected) {
  if (outcome.error) return {error: outcome.error};
  return {deviation: rounded(deviation(outcome.values, expected.values)), left: outcome.left};
}

/** What is wrong with it, if anything. */
function complaint(found, limit, fault) {
  if (fault?.error) {
    if (found.error)
      return fault.error.test(found.error) ? null : `another error than is known: ${found.error}`;
    return 'works, though tolerances.mjs says it does not';
  }
  if (found.error) return found.error;
  if (found.trains === false) return 'the loss did not fall, or is not finite';
  if (found.left !== 0) return `left ${found.left} tensors`;
  const isOff = !(found.deviation !== null && found.deviation <= limit);
  if (fault?.differs) return isOff ? null : 'agrees with cpu, though tolerances.mjs says it does not';
  return isOff ? `differs from cpu by ${found.deviation}, more than ${limit}` : null;
}

/** What a page says that is no longer so: which works where. Skipped places and what was not run cannot tell. */
export function differences(now, then) {
  const found = [];
  for (const [name, {models = {}, features = {}}] of Object.entries(now)) {
    const compare = (what, value, old) => {
      if (!old) found.push(`${name}: ${what}: measured, but not on the page`);
      else if (verdict(value) !== verdict(old)) {
        found.push(`${name}: ${what}: ${verdict(value)}, and the page says ${verdict(old)}`);
      }
    };
    for (const [what, ways] of Object.entries(models)) {
      for (const [way, value] of Object.entries(ways)) {
        compare(`${what}, ${way}`, value, then[name]?.models?.[what]?.[way]);
      }
    }
    for (const [what, value] of Object.entries(features)) compare(what, value, then[name]?.features?.[what]);
  }
  return found;
}

/** In words. Whether a deviation is small enough is judged by its tolerance, and numbers differ between machines. */
function verdict({error, trains, deviation, left}) {
  if (error) return error;
  return [
    trains === false ? 'does not train' : 'works',
    deviation === null || deviation > 1e-2 ? 'differs from cpu' : 'agrees with cpu',
    left === 0 ? 'leaks nothing' : 'leaks',
  ].join(', ');
}

const rounded = number => (Number.isFinite(number) ? Number(number.toPrecision(2)) : null);

const mapEntries = (record, f) =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(key, value)]));

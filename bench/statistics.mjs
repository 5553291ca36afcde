/** Median and quartiles (linear interpolation), and how many values they are of. */
export function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share => {
    const place = share * (sorted.length - 1);
    const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
    return low + (high - low) * (place - Math.floor(place));
  };
  return {median: at(0.5), q1: at(0.25), q3: at(0.75), n: sorted.length};
}

/** The largest relative difference of two lists, over the length of the shorter one. */
export function largestDifference(some, others) {
  const n = Math.min(some.length, others.length);
  const differences = some.slice(0, n).map((value, i) => Math.abs(value - others[i]) / Math.abs(others[i]));
  return Math.max(0, ...differences);
}

/** Measurements as SVG pictures. */

const width = 720;
const margin = {left: 88, right: 32, top: 16, bottom: 64};

export interface Chart {
  /** Of every step, in `unit`. */
  loss: number[];
  /** Default: bits per byte. */
  unit?: string;
  /** Levels to compare with, each a dashed line. */
  levels: {name: string; bits: number}[];
}

/** Every step as a faint line, the centered mean of ten as a bold one, and dashed levels. */
export function lossChart({loss, levels, unit = 'bits per byte'}: Chart): string {
  const {axes, points, across} = lossAxes(
    320,
    [...loss, ...levels.map(level => level.bits)],
    loss.length,
    'training loss of every step',
    unit,
  );
  return `${axes}
<polyline points="${points(loss)}" fill="none" stroke="var(--curve)" stroke-opacity=".5"/>
<polyline points="${points(centeredMean(loss))}" fill="none" stroke="var(--curve)" stroke-width="2.5"/>
${levels.map(({bits}, i) => across(bits, `stroke="var(--level${i})" stroke-width="2" stroke-dasharray="7 5"`)).join('\n')}
</svg>
${legend([
  {style: 'stroke="var(--curve)" stroke-opacity=".5"', name: 'each step'},
  {style: 'stroke="var(--curve)" stroke-width="2.5"', name: 'mean of the ten around it'},
  ...levels.map(({name}, i) => ({
    style: `stroke="var(--level${i})" stroke-width="2" stroke-dasharray="7 5"`,
    name,
  })),
])}`;
}

/** The losses of one training. */
export interface Series {
  name: string;
  /** Bits per byte of every step. */
  loss: number[];
}

/** Colours that the colour-blind tell apart: `--series0` to `--series6` of the page. */
const colours = 7;

/** Patterns that tell lines apart without colour. Their number and that of the colours share no factor: 42 pairs. */
const dashes = ['', '9 5', '2 4', '12 4 2 4', '18 7', '7 3 2 3 2 3'];

const seriesStyle = (i: number) => {
  const dash = dashes[i % dashes.length]!;
  const pattern = dash && ` stroke-dasharray="${dash}"`;
  return `stroke="var(--series${i % colours})" stroke-width="2.25"${pattern}`;
};

/** Where losses are cut off, so that one training that diverges leaves the others legible: guessing is worth 8. */
const ceiling = 9;

/** The mean of the ten around each step, a line for each training. */
export function curvesChart(series: readonly Series[]): string {
  const cut = (bits: number) => (bits <= ceiling ? bits : ceiling);
  const isCut = series.some(({loss}) => loss.some(bits => cut(bits) !== bits));
  const means = series.map(({loss}) => centeredMean(loss.map(cut)));
  const steps = Math.max(1, ...means.map(mean => mean.length));
  const values = means.flat();
  const {axes, points} = lossAxes(
    400,
    values.length > 0 ? values : [0],
    steps,
    'training loss, mean of ten steps, by method',
  );
  return `${axes}
${means.map((mean, i) => `<polyline points="${points(mean)}" fill="none" ${seriesStyle(i)}/>`).join('\n')}
</svg>
${legend(series.map(({name}, i) => ({style: seriesStyle(i), name})))}
<p class="legend">Each line is the mean of the ten steps around each.${isCut ? ` Losses above ${ceiling} count as ${ceiling}.` : ''}</p>`;
}

/** Axes for losses by step, the picture still open; `points` places a line in it. */
function lossAxes(height: number, values: number[], count: number, label: string, unit = 'bits per byte') {
  const vertical = niceTicks(Math.min(...values), Math.max(...values), 5);
  const [low, high] = [vertical[0]!, vertical.at(-1)!];
  const last = Math.max(count, 1);
  const steps = niceTicks(0, last, 5).filter(step => step <= count);
  const x = (step: number) => place(step / last, margin.left, width - margin.right);
  const y = (bits: number) => place((bits - low) / (high - low), height - margin.bottom, margin.top);
  const across = (bits: number, style: string) =>
    `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(bits)}" y2="${y(bits)}" ${style}/>`;
  const middle = (margin.top + height - margin.bottom) / 2;
  const axes = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">
${vertical
  .map(
    bits =>
      across(bits, 'stroke="var(--line)"') +
      `<text x="${margin.left - 8}" y="${y(bits)}" dy=".35em" text-anchor="end">${tickLabel(bits, vertical)}</text>`,
  )
  .join('\n')}
${steps.map(step => `<text x="${x(step)}" y="${height - margin.bottom}" dy="1.3em" text-anchor="middle">${step}</text>`).join('\n')}
<text x="${(margin.left + width - margin.right) / 2}" y="${height - 6}" text-anchor="middle">step</text>
<text transform="translate(20 ${middle}) rotate(-90)" text-anchor="middle">${unit}, training</text>`;
  const points = (all: number[]) => all.map((bits, i) => `${x(i + 1)},${y(bits)}`).join(' ');
  return {axes, points, across};
}

/** A value before, and the values after by name. */
export interface Panel {
  name: string;
  before: number;
  dots: {name: string; value: number}[];
}

/** A row per name and a panel per measure: a dot after, a line from where all began. */
export function dotChart(panels: readonly Panel[]): string {
  const names = panels[0]!.dots.map(({name}) => name);
  const row = 28;
  const [top, left, gap] = [34, 200, 52];
  const bottom = top + names.length * row;
  const each = (width - left - margin.right - gap * (panels.length - 1)) / panels.length;
  const y = (i: number) => top + (i + 0.5) * row;
  const drawn = panels.map(({name, before, dots}, k) => {
    const values = [before, ...dots.map(({value}) => value)];
    const ticks = niceTicks(Math.min(...values), Math.max(...values), 4);
    const start = left + k * (each + gap);
    const x = (value: number) =>
      place((value - ticks[0]!) / (ticks.at(-1)! - ticks[0]!), start, start + each);
    const lines = ticks.map(
      tick =>
        `<line x1="${x(tick)}" x2="${x(tick)}" y1="${top}" y2="${bottom}" stroke="var(--line)"/>` +
        `<text x="${x(tick)}" y="${bottom}" dy="1.4em" text-anchor="middle">${tick.toFixed(digitsOf(ticks))}</text>`,
    );
    const marks = dots.map(
      ({value}, i) =>
        `<line x1="${x(before)}" x2="${x(value)}" y1="${y(i)}" y2="${y(i)}" stroke="var(--curve)" stroke-opacity=".45" stroke-width="2"/>` +
        `<circle cx="${x(value)}" cy="${y(i)}" r="5" fill="var(--curve)"/>`,
    );
    return [
      `<text x="${start + each / 2}" y="16" text-anchor="middle">${name}</text>`,
      ...lines,
      `<line x1="${x(before)}" x2="${x(before)}" y1="${top}" y2="${bottom}" stroke="var(--level0)" stroke-width="2" stroke-dasharray="7 5"/>`,
      ...marks,
    ].join('\n');
  });
  return `<svg viewBox="0 0 ${width} ${bottom + 32}" role="img" aria-label="held-out bits per byte by method">
${names.map((name, i) => `<text x="${left - 14}" y="${y(i)}" dy=".35em" text-anchor="end">${name}</text>`).join('\n')}
${drawn.join('\n')}
</svg>
${legend([{style: 'stroke="var(--level0)" stroke-width="2" stroke-dasharray="7 5"', name: 'as it ships'}])}`;
}

const place = (share: number, from: number, to: number) => (from + (to - from) * share).toFixed(1);

/** Digits after the point that tell ticks apart. */
const digitsOf = (ticks: readonly number[]) =>
  Math.max(0, Math.ceil(-Math.log10((ticks.at(-1)! - ticks[0]!) / (ticks.length - 1)) - 1e-9));

/** A tick in as many digits as tell it from the others; from 100,000 on as 5.5e10, for there is no more room. */
export function tickLabel(tick: number, ticks: readonly number[]): string {
  const largest = Math.max(...ticks.map(Math.abs));
  if (largest < 1e5) return tick.toFixed(digitsOf(ticks));
  if (tick === 0) return '0';
  const apart = (ticks.at(-1)! - ticks[0]!) / (ticks.length - 1);
  const digits = Math.max(0, Math.ceil(Math.log10(Math.abs(tick)) - Math.log10(apart) - 1e-9));
  return String(Number(tick.toExponential(digits)).toExponential()).replace('e+', 'e');
}

const legend = (keys: {style: string; name: string}[]) =>
  `<p class="legend">${keys
    .map(
      ({style, name}) =>
        `<span><svg viewBox="0 0 40 10"><line x1="0" x2="40" y1="5" y2="5" ${style}/></svg> ${name}</span>`,
    )
    .join('\n')}</p>`;

/** Round numbers, about `count` of them and evenly spaced, that enclose a range. */
export function niceTicks(low: number, high: number, count: number): number[] {
  const rough = Math.max(high - low, 1e-3) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map(times => times * power).find(step => step >= rough * (1 - 1e-9))!;
  const first = Math.floor(low / unit);
  const last = Math.max(Math.ceil(high / unit), first + 1);
  return Array.from({length: last - first + 1}, (_, i) => Number(((first + i) * unit).toPrecision(12)));
}

/** The mean of the five values before each place and of the five from it on. */
export function centeredMean(values: number[]): number[] {
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - 5), i + 5);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

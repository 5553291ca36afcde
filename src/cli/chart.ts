/** The loss of a training as an SVG picture. */

const width = 720;
const height = 320;
const margin = {left: 88, right: 32, top: 16, bottom: 64};

export interface Chart {
  /** Bits per byte of every step. */
  loss: number[];
  /** Levels to compare with, each a dashed line. */
  levels: {name: string; bits: number}[];
}

/** Every step as a faint line, the centered mean of ten as a bold one, and dashed levels. */
export function lossChart({loss, levels}: Chart): string {
  const values = [...loss, ...levels.map(level => level.bits)];
  const vertical = niceTicks(Math.min(...values), Math.max(...values), 5);
  const [low, high] = [vertical[0]!, vertical.at(-1)!];
  const steps = niceTicks(0, Math.max(loss.length, 1), 5).filter(step => step <= loss.length);
  const place = (share: number, from: number, to: number) => (from + (to - from) * share).toFixed(1);
  const x = (step: number) => place(step / Math.max(loss.length, 1), margin.left, width - margin.right);
  const y = (bits: number) => place((bits - low) / (high - low), height - margin.bottom, margin.top);
  const points = (all: number[]) => all.map((bits, i) => `${x(i + 1)},${y(bits)}`).join(' ');
  const across = (bits: number, style: string) =>
    `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(bits)}" y2="${y(bits)}" ${style}/>`;
  const digits = Math.max(0, Math.ceil(-Math.log10((high - low) / (vertical.length - 1)) - 1e-9));
  const middle = (margin.top + height - margin.bottom) / 2;
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="training loss of every step">
${vertical
  .map(
    bits =>
      across(bits, 'stroke="var(--line)"') +
      `<text x="${margin.left - 8}" y="${y(bits)}" dy=".35em" text-anchor="end">${bits.toFixed(digits)}</text>`,
  )
  .join('\n')}
${steps.map(step => `<text x="${x(step)}" y="${height - margin.bottom}" dy="1.3em" text-anchor="middle">${step}</text>`).join('\n')}
<text x="${(margin.left + width - margin.right) / 2}" y="${height - 6}" text-anchor="middle">step</text>
<text transform="translate(20 ${middle}) rotate(-90)" text-anchor="middle">bits per byte, training</text>
<polyline points="${points(loss)}" fill="none" stroke="var(--curve)" stroke-opacity=".5"/>
<polyline points="${points(centeredMean(loss))}" fill="none" stroke="var(--curve)" stroke-width="2.5"/>
${levels.map(({bits}, i) => across(bits, `stroke="var(--level${i})" stroke-width="2" stroke-dasharray="7 5"`)).join('\n')}
</svg>
<p class="legend">${[
    key('stroke="var(--curve)" stroke-opacity=".5"', 'each step'),
    key('stroke="var(--curve)" stroke-width="2.5"', 'mean of the ten around it'),
    ...levels.map(({name}, i) =>
      key(`stroke="var(--level${i})" stroke-width="2" stroke-dasharray="7 5"`, name),
    ),
  ].join('\n')}</p>`;
}

const key = (style: string, name: string) =>
  `<span><svg viewBox="0 0 30 10"><line x1="0" x2="30" y1="5" y2="5" ${style}/></svg> ${name}</span>`;

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

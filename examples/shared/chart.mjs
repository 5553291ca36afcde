// Curves as SVG.
import {escapeHtml} from './page.mjs';

const [width, height] = [720, 340];
const margin = {left: 64, right: 20, top: 16, bottom: 52};
const dashes = ['', '9 5', '2 4', '12 4 2 4'];

const chartStyle = `
  .chart { --ink: #475467; --line: #d9dee8; --series0: #0072b2; --series1: #d55e00; --series2: #008a64;
    --series3: #b0508a; }
  @media (prefers-color-scheme: dark) { .chart { --ink: #c3cad8; --line: #344054; --series0: #5aa9e6;
    --series1: #ff8a3d; --series2: #2fc296; --series3: #e08fc0; } }
  .chart text { fill: var(--ink); font: 13px system-ui, sans-serif; }`;

/**
 * Lines over steps, told apart by colour and by dashes: an SVG that needs no style of the page.
 * @param {{name: string, points: [number, number][]}[]} series
 * @param {object} options
 * @param {string} options.y what the vertical axis says
 * @param {boolean} [options.dots] mark the points themselves
 * @param {boolean} [options.percent] the values are shares
 * @param {[number, number][]} [options.faint] a thin line behind, in the colour of the first
 */
export function lineChart(series, {y: yLabel, dots = false, percent = false, faint = []}) {
  const all = [...series.flatMap(({points}) => points), ...faint];
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => y);
  const vertical = ticks(Math.min(...ys), Math.max(...ys));
  const horizontal = ticks(0, Math.max(...xs)).filter(tick => tick <= Math.max(...xs));
  const place = (share, from, to) => (from + (to - from) * share).toFixed(1);
  const x = value => place(value / Math.max(...xs), margin.left, width - margin.right);
  const y = value =>
    place((value - vertical[0]) / (vertical.at(-1) - vertical[0]), height - margin.bottom, margin.top);
  const digits = Math.max(0, Math.ceil(-Math.log10(vertical[1] - vertical[0]) - 1e-9));
  const written = value => (percent ? `${Math.round(100 * value)} %` : value.toFixed(digits));
  const style = i =>
    `stroke="var(--series${i % 4})" stroke-width="2.25" fill="none" stroke-dasharray="${dashes[i % 4]}"`;
  const legend = height + 8;
  const rows = series.map(
    ({name}, i) =>
      `<line x1="${margin.left}" x2="${margin.left + 44}" y1="${legend + 20 * i}" y2="${legend + 20 * i}" ${style(i)}/>` +
      `<text x="${margin.left + 56}" y="${legend + 20 * i}" dy=".35em">${escapeHtml(name)}</text>`,
  );
  const behind = faint.length
    ? `<polyline points="${faint.map(([a, b]) => `${x(a)},${y(b)}`).join(' ')}" fill="none" stroke="var(--series0)" stroke-opacity=".35"/>\n`
    : '';
  const lines = series.map(({points}, i) => {
    const marks = dots
      ? points.map(([a, b]) => `<circle cx="${x(a)}" cy="${y(b)}" r="3.5" fill="var(--series${i % 4})"/>`)
      : [];
    return `<polyline points="${points.map(([a, b]) => `${x(a)},${y(b)}`).join(' ')}" ${style(i)}/>${marks.join('')}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 ${width} ${legend + 20 * series.length}" role="img" aria-label="${escapeHtml(`${yLabel} by step`)}">
<style>${chartStyle}</style>
${vertical
  .map(
    tick =>
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(tick)}" y2="${y(tick)}" stroke="var(--line)"/>` +
      `<text x="${margin.left - 8}" y="${y(tick)}" dy=".35em" text-anchor="end">${written(tick)}</text>`,
  )
  .join('\n')}
${horizontal.map(tick => `<text x="${x(tick)}" y="${height - margin.bottom + 20}" text-anchor="middle">${tick}</text>`).join('\n')}
<text x="${(margin.left + width - margin.right) / 2}" y="${height - 12}" text-anchor="middle">step</text>
<text transform="translate(14 ${(margin.top + height - margin.bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(yLabel)}</text>
${behind}${lines.join('\n')}
${rows.join('\n')}
</svg>`;
}

/** Every value with the mean of the ten around it in its place, by step from 1. */
export const smooth = values =>
  values.map((_, i) => {
    const near = values.slice(Math.max(0, i - 5), i + 5);
    return [i + 1, near.reduce((sum, value) => sum + value, 0) / near.length];
  });

/** Round numbers, evenly spaced, that enclose a range. */
function ticks(low, high) {
  const rough = Math.max(high - low, 1e-6) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].map(times => times * power).find(step => step >= rough * (1 - 1e-9));
  const first = Math.floor(low / unit + 1e-9);
  const last = Math.max(Math.ceil(high / unit - 1e-9), first + 1);
  return Array.from({length: last - first + 1}, (_, i) => Number(((first + i) * unit).toPrecision(12)));
}

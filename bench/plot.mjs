// Small SVG plots as text: the same numbers give the same file.

const [width, height] = [760, 440];
const area = {left: 72, right: 516, top: 44, bottom: 384};
const font = 'font-family="Helvetica, Arial, sans-serif"';

const escaped = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const round = x => Math.round(x * 10) / 10;

const write = (x, y, content, {anchor = 'start', size = 12, color = '#222', more = ''} = {}) =>
  `<text x="${round(x)}" y="${round(y)}" ${font} font-size="${size}" fill="${color}" text-anchor="${anchor}" ${more}>` +
  `${escaped(content)}</text>`;

const document = (tall, parts) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${tall}" viewBox="0 0 ${width} ${tall}">`,
    `<rect width="${width}" height="${tall}" rx="6" fill="#fcfcfa" stroke="#ddd"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');

/** A number as people write it on an axis. */
export function short(value) {
  if (value >= 1000) return `${Number((value / 1000).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

/** Powers of ten, with 2 and 5 between them where there are few, from below `low` to above `high`. */
function logTicks(low, high) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const steps = to - from <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let e = from; e <= to; e++) ticks.push(...steps.map(step => step * 10 ** e));
  const first = ticks.findLastIndex(tick => tick <= low);
  const last = ticks.findIndex(tick => tick >= high);
  return ticks.slice(Math.max(0, first), last + 1);
}

/**
 * Lines with markers on two logarithmic axes.
 *
 * @param series `{label, color, dashed, points: [[x, y], …]}`; a dashed one has hollow markers.
 */
export function lines({title, x, y, series}) {
  const all = series.flatMap(({points}) => points);
  const xs = [...new Set(all.map(([value]) => value))].sort((a, b) => a - b);
  const ticks = logTicks(...[Math.min, Math.max].map(of => of(...all.map(([, value]) => value))));
  const scale = (from, to, low, high) => {
    const span = Math.log(high / low) || 1;
    return value => from + ((to - from) * Math.log(value / low)) / span;
  };
  const atX = scale(area.left + 14, area.right - 14, xs[0], xs.at(-1));
  const atY = scale(area.bottom, area.top, ticks[0], ticks.at(-1));
  const parts = [write(area.left, 26, title, {size: 15})];
  for (const tick of ticks) {
    const [at, minor] = [round(atY(tick)), Math.log10(tick) % 1 !== 0];
    parts.push(
      `<path d="M${area.left} ${at}H${area.right}" stroke="${minor ? '#eee' : '#ddd'}"/>`,
      write(area.left - 8, at + 4, short(tick), {anchor: 'end'}),
    );
  }
  for (const value of xs) {
    parts.push(
      `<path d="M${round(atX(value))} ${area.bottom}v5" stroke="#888"/>`,
      write(atX(value), area.bottom + 20, short(value), {anchor: 'middle'}),
    );
  }
  const middle = (area.top + area.bottom) / 2;
  parts.push(
    `<path d="M${area.left} ${area.top}V${area.bottom}H${area.right}" fill="none" stroke="#888"/>`,
    write((area.left + area.right) / 2, area.bottom + 42, x, {anchor: 'middle', size: 13}),
    write(20, middle, y, {anchor: 'middle', size: 13, more: `transform="rotate(-90 20 ${middle})"`}),
  );
  series.forEach(({label, color, dashed, points}, i) => {
    const look = `stroke="${color}" stroke-width="2"${dashed ? ' stroke-dasharray="5 4"' : ''}`;
    const marker = (cx, cy) =>
      `<circle cx="${round(cx)}" cy="${round(cy)}" r="3.5" fill="${dashed ? '#fcfcfa' : color}" ` +
      `stroke="${color}" stroke-width="1.5"/>`;
    const path = points.map(([px, py]) => `${round(atX(px))} ${round(atY(py))}`).join('L');
    const row = area.top + 14 + 22 * i;
    const legend = area.right + 14;
    parts.push(
      `<path d="M${path}" fill="none" ${look}/>`,
      ...points.map(([px, py]) => marker(atX(px), atY(py))),
      `<path d="M${legend} ${row}h24" ${look}/>`,
      marker(legend + 12, row),
      write(legend + 32, row + 4, label, {size: 11}),
    );
  });
  return document(height, parts);
}

/** Horizontal bars on a logarithmic axis, with their quartiles. @param bars `{label, color, hollow, value, low, high}` */
export function bars({title, unit, bars: rows}) {
  const [left, right, top, pitch] = [270, 680, 52, 26];
  const bottom = top + pitch * rows.length;
  const ticks = logTicks(Math.min(...rows.map(row => row.low)) / 1.5, Math.max(...rows.map(row => row.high)));
  const span = Math.log(ticks.at(-1) / ticks[0]);
  const at = value => round(left + ((right - left) * Math.log(value / ticks[0])) / span);
  const parts = [write(16, 26, title, {size: 15})];
  for (const tick of ticks) {
    parts.push(
      `<path d="M${at(tick)} ${top - 6}V${bottom}" stroke="#ddd"/>`,
      write(at(tick), bottom + 18, short(tick), {anchor: 'middle'}),
    );
  }
  rows.forEach(({label, color, hollow, value, low, high}, i) => {
    const y = top + pitch * i;
    const middle = y + 9;
    parts.push(
      write(left - 10, y + 13, label, {anchor: 'end'}),
      `<rect x="${left}" y="${y}" width="${round(at(value) - left)}" height="18" fill="${color}" ` +
        `fill-opacity="${hollow ? 0.35 : 0.85}" stroke="${color}"/>`,
      `<path d="M${at(low)} ${middle}H${at(high)}M${at(low)} ${middle - 4}v8M${at(high)} ${middle - 4}v8" stroke="#222"/>`,
      write(Math.max(at(high), at(value)) + 6, y + 13, short(value)),
    );
  });
  parts.push(write((left + right) / 2, bottom + 40, unit, {anchor: 'middle', size: 13}));
  return document(bottom + 56, parts);
}

/**
 * Panels, two a row, of points on logarithmic axes: every value, median and quartiles.
 *
 * @param panels `{title, rows: [{label, color, values, median, low, high}]}`
 */
export function dots({title, unit, panels}) {
  const [pitch, top, column] = [24, 76, width / 2];
  const tall = pitch * Math.max(...panels.map(({rows}) => rows.length)) + 66;
  const parts = [write(16, 26, title, {size: 15}), write(16, 46, unit, {size: 12, color: '#666'})];
  panels.forEach(({title: name, rows}, i) => {
    const [x, y] = [column * (i % 2), top + tall * Math.floor(i / 2)];
    const [left, right, bottom] = [x + 132, x + column - 20, y + 10 + pitch * rows.length];
    const all = rows.flatMap(({values}) => values);
    const ticks = logTicks(Math.min(...all), Math.max(...all));
    const at = value =>
      round(left + ((right - left) * Math.log(value / ticks[0])) / Math.log(ticks.at(-1) / ticks[0]));
    parts.push(write(x + 16, y, name, {size: 13}));
    for (const tick of ticks) {
      parts.push(
        `<path d="M${at(tick)} ${y + 8}V${bottom}" stroke="#ddd"/>`,
        write(at(tick), bottom + 16, short(tick), {anchor: 'middle', size: 11}),
      );
    }
    rows.forEach(({label, color, values, median, low, high}, j) => {
      const middle = y + 10 + pitch * (j + 0.5);
      parts.push(
        write(left - 10, middle + 4, label, {anchor: 'end', size: 11}),
        ...values.map(
          value => `<circle cx="${at(value)}" cy="${middle}" r="2.2" fill="${color}" fill-opacity="0.35"/>`,
        ),
        `<path d="M${at(low)} ${middle}H${at(high)}" stroke="${color}" stroke-width="3" stroke-opacity="0.7"/>`,
        `<path d="M${at(median)} ${middle - 7}v14" stroke="${color}" stroke-width="2.5"/>`,
      );
    });
  });
  return document(top + tall * Math.ceil(panels.length / 2) - 24, parts);
}

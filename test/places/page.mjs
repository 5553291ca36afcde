// Makes docs/places.md's tables of the results.
import {readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import * as prettier from 'prettier';
import {root} from './bundle.mjs';
import {known, tolerances} from './tolerances.mjs';

const page = join(root, 'docs/places.md');
const [begin, end] = ['<!-- tables: written by test/places/run.mjs -->', '<!-- end of tables -->'];

/** Puts the tables between their marks. */
export async function writePage(results) {
  const text = readFileSync(page, 'utf8');
  const [before, after] = [text.slice(0, text.indexOf(begin)), text.slice(text.indexOf(end))];
  if (!text.includes(begin) || !text.includes(end)) throw new Error(`${page} has no marks for its tables`);
  const options = {...(await prettier.resolveConfig(page)), parser: 'markdown'};
  writeFileSync(page, await prettier.format([before + begin, tables(results), after].join('\n\n'), options));
}

/** All of it, as markdown. */
export function tables({versions, places}) {
  const measured = Object.entries(places).filter(([, {models}]) => models);
  const names = kind => [...new Set(measured.flatMap(([, place]) => Object.keys(place[kind])))];
  const heads = measured.map(([name]) => name);
  const notes = [];
  const cell = (place, value, name, way) => (value ? inWords(place, value, name, way, notes) : '');
  const models = names('models').map(name => [
    name,
    ...measured.map(([place, {models}]) => trained(place, models[name], name, cell)),
  ]);
  const features = names('features').map(name => [
    name,
    ...measured.map(([place, {features}]) => cell(place, features[name], name)),
  ]);
  const absent = Object.entries(places).filter(([, {models}]) => !models);
  return [
    '## Places',
    table(
      ['', 'what it runs on', 'tolerance', 'because of'],
      measured.map(([name, {version, description}]) => {
        const {limit, why} = tolerances[backendOf(name)];
        return [name, [version, description].filter(Boolean).join(', '), short(limit), why];
      }),
    ),
    ...absent.map(([name, {skipped, failed}]) => `Not measured: ${name} (${skipped ?? failed}).`),
    Object.entries(versions ?? {})
      .map(([name, version]) => `${name} ${version}`)
      .join(', ') + '.',
    '## Models',
    table(['', ...heads], models),
    '## Methods and features',
    table(['', ...heads], features),
    ...(notes.length > 0 ? [notes.map((note, i) => `${i + 1}. ${note}`).join('\n')] : []),
    ...warningsOf(measured),
  ].join('\n\n');
}

/** Both ways of capture in one cell, and whether tfjs alone could take a step. */
function trained(place, ways, name, cell) {
  if (!ways) return '';
  const {auto, dense, plain} = ways;
  const parts = [cell(place, auto, name, 'auto')];
  if (dense) parts.push(`dense: ${cell(place, dense, name, 'dense')}`);
  if (plain?.error) parts.push('tfjs alone: no');
  return parts.join('<br>');
}

function inWords(place, {error, trains, deviation, left}, name, way, notes) {
  const fault = faultOf(place, name, way);
  const note = fault ? ` [${noteOf(fault.why, notes)}]` : '';
  const kernel = error && /Kernel '(\w+)' not registered/.exec(error)?.[1];
  if (kernel) return `needs tfjs-lora/wasm: \`${kernel}\`${note}`;
  if (error) return `no${note}`;
  const words = [
    ...(trains === false ? ['does not train'] : []),
    fault?.differs ? 'differs' : deviation === null ? 'differs' : short(deviation),
    ...(left === 0 ? [] : [`leaks ${left}`]),
  ];
  return words.join(', ') + note;
}

function faultOf(name, what, way) {
  const place = {where: name.split(' ')[0], backend: backendOf(name), kernels: name.includes('+')};
  return known.find(
    ({places, names, ways}) => places(place) && names.test(what) && (!ways || !way || ways.includes(way)),
  );
}

function noteOf(why, notes) {
  if (!notes.includes(why)) notes.push(why);
  return notes.indexOf(why) + 1;
}

function warningsOf(measured) {
  const said = measured.flatMap(([name, {warnings}]) => warnings.map(warning => `- ${name}: \`${warning}\``));
  return said.length > 0 ? ['What the library said on the console, in all:', said.join('\n')] : [];
}

const backendOf = name => name.split(' ')[1];
const short = number => (number === 0 ? '0' : number.toExponential(0).replace('+', ''));
const row = cells => `| ${cells.map(text => text.replace(/\|/g, '\\|')).join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

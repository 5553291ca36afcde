// Trains every kind of model with every method in every place tfjs runs, and writes what came of it.
//
//     node test/places/run.mjs            measures, writes test/places/results.json and docs/places.md
//     node test/places/run.mjs --check    measures, and fails where that page would say something else
//     node test/places/run.mjs --full     also what takes minutes on webgpu in software
//     node test/places/run.mjs --page     writes the page of the results there are
//         --places wasm,Chromium          only places whose names have one of these in them
//         --only GRU                      only models and methods whose names have this in them
//
// A place that is not there is skipped, with its reason. Fails where something is not as `tolerances.mjs` says.
import {spawn} from 'node:child_process';
import {existsSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {parseArgs} from 'node:util';
import {bundle, folder, root} from './bundle.mjs';
import {launch, findChromium} from './browser.mjs';
import {differences, judge} from './judge.mjs';
import {writePage} from './page.mjs';

const {values: options} = parseArgs({
  options: {
    check: {type: 'boolean', default: false},
    full: {type: 'boolean', default: false},
    page: {type: 'boolean', default: false},
    places: {type: 'string', default: ''},
    only: {type: 'string', default: ''},
  },
});
const file = join(root, 'test/places/results.json');
const onFile = () => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {places: {}});
const patience = 1000 * Number(process.env.PLACES_PATIENCE ?? 600);

const list = [
  {name: 'Node cpu', where: 'Node', backend: 'cpu', kernels: false},
  {name: 'Node wasm', where: 'Node', backend: 'wasm', kernels: false},
  {name: 'Node wasm + tfjs-lora/wasm', where: 'Node', backend: 'wasm', kernels: true},
  {name: 'Node webgpu', where: 'Node', backend: 'webgpu', kernels: false},
  {name: 'Chromium cpu', where: 'Chromium', backend: 'cpu', kernels: false},
  {name: 'Chromium wasm', where: 'Chromium', backend: 'wasm', kernels: false},
  {name: 'Chromium wasm + tfjs-lora/wasm', where: 'Chromium', backend: 'wasm', kernels: true},
  {name: 'Chromium webgl', where: 'Chromium', backend: 'webgl', kernels: false},
  {name: 'Chromium webgpu', where: 'Chromium', backend: 'webgpu', kernels: false},
];
const wanted = list.filter(({name}) => options.places.split(',').some(part => name.includes(part)));

if (options.page) {
  await writePage(onFile());
} else {
  const files = await bundle();
  const [reference, ...rest] = [list[0], ...wanted.filter(place => place !== list[0])];
  const measured = new Map([[reference, await inNode(files, reference)]]);
  const lanes = ['Node', 'Chromium'].map(where => rest.filter(place => place.where === where));
  const found = await Promise.all([nodeLane(files, lanes[0]), browserLane(files, lanes[1])]);
  for (const [place, result] of found.flat()) measured.set(place, result);
  process.exitCode = await report(measured, reference);
}

async function nodeLane(files, places) {
  const found = [];
  for (const place of places) found.push([place, await inNode(files, place)]);
  return found;
}

async function browserLane(files, places) {
  if (places.length === 0) return [];
  const path = findChromium();
  const skip = skipped => places.map(place => [place, {skipped}]);
  if (!path) return skip('no chromium on PATH, and CHROME_PATH names none');
  let browser;
  try {
    browser = await launch(path, files.page);
  } catch (error) {
    return [...skip(`chromium does not start: ${error.message.split('\n')[0]}`)];
  }
  const found = [];
  try {
    for (const place of places) {
      const started = performance.now();
      const result = await browser
        .run(settingOf(place), patience)
        .catch(error => ({failed: error.message.split('\n')[0]}));
      const done = result ?? {skipped: `this Chromium has no ${place.backend}`};
      found.push([place, {...done, version: `Chromium ${browser.version}`}]);
      tell(place, done, started);
    }
  } finally {
    await browser.close();
  }
  return found;
}

function settingOf({backend, kernels}) {
  return {backend, kernels, only: options.only, full: options.full};
}

/** In a process of its own; with webgpu first on a GPU there may be, then on the one in software that Chromium has. */
async function inNode({node}, place) {
  const started = performance.now();
  const tries = place.backend === 'webgpu' ? [{}, ...softwareVulkan()] : [{}];
  let result;
  for (const environment of tries) {
    result = await runNode(node, place, environment);
    if (result.crashed) {
      // A driver that crashes says nothing of the library the first time.
      console.log(`${place.name}: ended by ${result.crashed}; once more`);
      result = await runNode(node, place, environment);
    }
    if (!result.skipped) break;
  }
  tell(place, result, started);
  return {...result, version: `Node ${process.versions.node}`};
}

/** Environments that show the Vulkan loader SwiftShader beside a Chromium. */
function softwareVulkan() {
  const chromium = findChromium();
  const folders = [
    '/usr/lib/chromium',
    '/usr/lib/chromium-browser',
    ...(chromium ? [dirname(chromium)] : []),
  ];
  const driver = folders.find(path => existsSync(join(path, 'vk_swiftshader_icd.json')));
  if (!driver) return [];
  const libraries = [process.env.LD_LIBRARY_PATH, driver].filter(Boolean).join(':');
  return [{VK_ICD_FILENAMES: join(driver, 'vk_swiftshader_icd.json'), LD_LIBRARY_PATH: libraries}];
}

function runNode(node, place, environment) {
  const out = join(folder, `${process.pid}-${place.backend}-${place.kernels}.json`);
  rmSync(out, {force: true});
  return new Promise(resolve => {
    const child = spawn(process.execPath, [node, JSON.stringify(settingOf(place)), out], {
      env: {...process.env, ...environment},
      stdio: ['ignore', process.env.PLACES_VERBOSE ? 'inherit' : 'ignore', 'pipe'],
    });
    let errors = '';
    child.stderr.on('data', chunk => (errors += chunk));
    const timer = setTimeout(() => {
      errors += `\nnot done after ${patience / 1000} s`;
      child.kill('SIGKILL');
    }, patience);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const last = errors.trim().split('\n').at(-1);
      const crashed = signal === 'SIGKILL' ? undefined : signal;
      if (existsSync(out)) {
        if (crashed) console.log(`${place.name}: all measured; then ended by ${crashed}`);
        resolve(JSON.parse(readFileSync(out, 'utf8')));
        rmSync(out);
      } else if (code === 3) resolve({skipped: last});
      else resolve({failed: last || `ended by ${signal ?? `exit code ${code}`}`, crashed});
    });
  });
}

function tell({name}, result, started) {
  const seconds = `${((performance.now() - started) / 1000).toFixed(0)} s`;
  if (result.skipped) console.log(`${name}: skipped: ${result.skipped}`);
  else console.log(`${name}: ${result.failed ? `failed: ${result.failed}` : 'done'} (${seconds})`);
}

/** Judges, writes or compares; the exit code. */
async function report(measured, reference) {
  const base = measured.get(reference);
  if (!base.scenarios) throw new Error(`nothing to compare with: ${base.failed ?? base.skipped}`);
  const said = onFile();
  const places = {};
  const complaints = [];
  for (const [place, result] of measured) {
    const judged = judge(place, result, base);
    places[place.name] = judged;
    complaints.push(...judged.complaints.map(text => `${place.name}: ${text}`));
    delete judged.complaints;
  }
  const skipped = Object.values(places).filter(({skipped}) => skipped).length;
  if (options.check) complaints.push(...differences(places, said.places));
  else if (complaints.length === 0 || process.env.PLACES_WRITE) {
    const versions = {};
    for (const name of ['tfjs', 'tfjs-backend-wasm', 'tfjs-backend-webgpu']) {
      versions[name] = JSON.parse(
        readFileSync(join(root, `node_modules/@tensorflow/${name}/package.json`), 'utf8'),
      ).version;
    }
    const merged = {...said.places};
    for (const [name, place] of Object.entries(places)) {
      const old = merged[name];
      // A part, or a place that is not here now, takes nothing away from what was measured before.
      if (place.skipped && old?.models) continue;
      const {models, features} = old ?? {};
      merged[name] = place.models
        ? {...place, models: {...models, ...place.models}, features: {...features, ...place.features}}
        : place;
    }
    const results = {versions, places: inOrder(merged)};
    writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
    await writePage(results);
  }
  for (const complaint of complaints) console.error(complaint);
  const done = Object.values(places).flatMap(({models = {}, features = {}}) => [
    ...Object.values(models),
    ...Object.values(features),
  ]);
  console.log(
    `places: ${done.length} trainings and features in ${measured.size - skipped} places, ${skipped} skipped, ` +
      `${complaints.length} not as they should be`,
  );
  return complaints.length > 0 ? 1 : 0;
}

function inOrder(places) {
  return Object.fromEntries(list.flatMap(({name}) => (places[name] ? [[name, places[name]]] : [])));
}

// Kills a training with SIGKILL again and again, at random moments and while it saves, and lets it go on from what is on
// disk: nothing on disk may ever be unreadable, and the weights at the end must be those of a run that was never killed.
//
//     node .ci/kill.mjs [--kills 200] [--seed 1]
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {build} from 'esbuild';

const {values} = parseArgs({
  options: {kills: {type: 'string', default: '200'}, seed: {type: 'string', default: '1'}},
});
const [kills, seed] = [Number(values.kills), Number(values.seed)];
const root = fileURLToPath(new URL('..', import.meta.url));
const place = mkdtempSync(join(tmpdir(), 'tfjs-lora-kill-'));

// One file each, of tfjs-core, its cpu backend and the library: a training is there in a fraction of a second.
const child = join(place, 'child.mjs');
const reader = join(place, 'reader.mjs');
const bundle = {
  bundle: true,
  format: 'esm',
  platform: 'node',
  mainFields: ['module', 'main'],
  logLevel: 'error',
  // tfjs-core asks for node:util by require.
  banner: {js: `import {createRequire} from 'node:module'; const require = createRequire(import.meta.url);`},
};
await build({...bundle, entryPoints: [join(root, 'test/kill/child.mjs')], outfile: child});
await build({
  ...bundle,
  stdin: {
    contents: `export {ioHandler} from './src/adapter/io.ts';
      export {latestCheckpoint} from './src/resume/index.ts';
      export {threefry} from './src/random.ts';`,
    resolveDir: root,
  },
  outfile: reader,
});
const {ioHandler, latestCheckpoint, threefry} = await import(reader);

const STEPS = 60;
const began = performance.now();
const counts = {kills: 0, inSaves: 0, runs: 0, reads: 0, leftovers: 0};
const problems = [];
console.warn = text => problems.push(String(text));

/** One life of a training: `until` says when it is to die; null: never. What it said, and whether it was killed. */
function live(folder, kind, final, until) {
  return new Promise((resolve, reject) => {
    const training = spawn(process.execPath, [child, folder, kind, String(STEPS), final], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [said, errors, timer] = ['', '', undefined];
    training.stdout.on('data', text => {
      said += text;
      const delay = timer === undefined && until?.(said);
      if (typeof delay === 'number') timer = setTimeout(() => training.kill('SIGKILL'), delay);
    });
    training.stderr.on('data', text => (errors += text));
    training.on('error', reject);
    training.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code !== 0 && signal !== 'SIGKILL')
        reject(new Error(`a child failed with ${code ?? signal}: ${errors}`));
      else resolve({said, isKilled: signal === 'SIGKILL'});
    });
  });
}

/** Numbers from 0 to 1 that follow from the seed alone. */
function numbers(run) {
  let i = 0;
  return () => threefry([seed, run], [i++, 0])[0] / 2 ** 32;
}

/** Every checkpoint that there is must be whole, not the newest alone. */
async function inspect(folder, kind, wasSaved) {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  for (const name of names) {
    const at = join(folder, name);
    counts.leftovers += readdirSync(at).filter(file => file.endsWith('.tmp')).length;
    if (!existsSync(join(at, 'model.json'))) continue;
    await ioHandler(`file://${at}`, 'load').load();
    counts.reads++;
  }
  const isThere =
    kind === 'one' ? existsSync(join(folder, 'only/model.json')) : await latestCheckpoint(`file://${folder}`);
  if (wasSaved && !isThere) problems.push(`${folder}: a save was over, and there is nothing to go on from`);
}

async function work(worker) {
  for (let run = worker; counts.kills < kills; run += 2) {
    const kind = run % 4 < 2 ? 'many' : 'one';
    const [folder, final] = [join(place, `run-${run}`), join(place, `run-${run}.bin`)];
    const random = numbers(run);
    let wasSaved = false;
    counts.runs++;
    for (let killed = 0; ;) {
      const isLast = counts.kills >= kills || killed >= 25;
      const isInSave = random() < 0.6;
      const [after, delay] = [1 + Math.floor(random() * 3), random()];
      const until = said => {
        if (isLast) return null;
        if (!isInSave) return said.length > 0 ? delay * 60 : null;
        return said.split('S').length > after ? delay * 12 : null;
      };
      const {said, isKilled} = await live(folder, kind, final, until);
      wasSaved ||= said.includes('D');
      await inspect(folder, kind, wasSaved);
      if (!isKilled) break;
      killed++;
      counts.kills++;
      if (said.lastIndexOf('S') > said.lastIndexOf('D')) counts.inSaves++;
    }
    if (!readFileSync(final).equals(reference[kind]))
      problems.push(`run ${run}: other weights than without kills`);
    rmSync(folder, {recursive: true});
  }
}

const reference = {};
for (const kind of ['many', 'one']) {
  const final = join(place, `never-killed-${kind}.bin`);
  await live(join(place, `never-killed-${kind}`), kind, final, null);
  reference[kind] = readFileSync(final);
}
if (!reference.many.equals(reference.one)) problems.push('two runs that were not killed differ');
await Promise.all([work(0), work(1)]);
rmSync(place, {recursive: true});
const seconds = ((performance.now() - began) / 1000).toFixed(0);
console.log(
  `${counts.kills} kills in ${counts.runs} runs of ${STEPS} gradients, ${counts.inSaves} of them during a save; ` +
    `${counts.reads} checkpoints read after kills, all whole; ${counts.leftovers} temporary files were seen beside them; ` +
    `${reference.many.length} bytes of weights compared at the end of each run; ${seconds} s`,
);
for (const problem of problems) console.error(problem);
if (problems.length > 0 || counts.inSaves === 0) process.exit(1);

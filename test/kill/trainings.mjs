// Trainings that are killed and go on, and what must hold each time one is.
import {spawn} from 'node:child_process';
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

const SIZES = {float32: 4, int32: 4, bool: 1};

/**
 * Prepares trainings of so many gradients. `endure(kind, name, plans)` lets one die as each plan says (`{stage, count}`:
 * when it comes by that stage for the count-th time; `{delay}`: so many milliseconds after it has begun, from outside) and
 * live to the end then, and tells how often it died. `kind` is 'many' for `checkpoints`, 'one' for `saveCheckpoint` to one place again and again.
 *
 * After every death each checkpoint on disk must be whole, by a reader that shares no code with the library; none older
 * than the last save that was over; and the next life must begin with the newest. At the end the weights must be, byte
 * for byte, those of a life without deaths. What does not hold is in `problems`.
 */
export async function trainings(gradients) {
  const place = mkdtempSync(join(tmpdir(), 'tfjs-lora-kill-'));
  const child = join(place, 'child.mjs');
  // One file of tfjs-core, its cpu backend and the library: a training is there in a fraction of a second.
  await build({
    entryPoints: [fileURLToPath(new URL('child.mjs', import.meta.url))],
    outfile: child,
    bundle: true,
    format: 'esm',
    platform: 'node',
    mainFields: ['module', 'main'],
    logLevel: 'error',
    // tfjs-core asks for node:util by require.
    banner: {
      js: `import {createRequire} from 'node:module'; const require = createRequire(import.meta.url);`,
    },
  });
  const counts = {kills: new Map(), runs: 0, read: 0, leftovers: 0};
  const problems = [];

  /** What it said, and whether it was killed. */
  function live(folder, kind, final, {stage, count, delay} = {}) {
    return new Promise((resolve, reject) => {
      const told = stage === undefined ? [] : [stage, String(count)];
      const training = spawn(process.execPath, [child, folder, kind, String(gradients), final, ...told], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let [said, errors, timer] = ['', '', undefined];
      training.stdout.on('data', text => {
        said += text;
        if (delay !== undefined) timer ??= setTimeout(() => training.kill('SIGKILL'), delay);
      });
      training.stderr.on('data', text => (errors += text));
      training.on('error', reject);
      training.on('close', (code, signal) => {
        clearTimeout(timer);
        if (/passed over/.test(errors)) problems.push(errors);
        if (code !== 0 && signal !== 'SIGKILL')
          reject(new Error(`a child failed with ${code ?? signal}: ${errors}`));
        else resolve({said: said.trim().split('\n'), isKilled: signal === 'SIGKILL'});
      });
    });
  }

  /** The number of gradients that the newest checkpoint knows, 0 where there is none; complains of each not whole. */
  function newest(folder) {
    let known = 0;
    for (const name of existsSync(folder) ? readdirSync(folder).sort() : []) {
      const at = join(folder, name);
      counts.leftovers += readdirSync(at).filter(file => file.endsWith('.tmp')).length;
      if (!existsSync(join(at, 'model.json'))) continue;
      try {
        known = readWhole(at);
        counts.read++;
      } catch (error) {
        problems.push(`${at} is not whole: ${error.message}`);
      }
    }
    return known;
  }

  const final = join(place, 'never-killed.bin');
  await live(join(place, 'never-killed'), 'one', final);
  const wanted = readFileSync(final);

  async function endure(kind, name, plans) {
    const [folder, final] = [join(place, name), join(place, `${name}.bin`)];
    const complain = what => problems.push(`${name} (${kind}): ${what}`);
    let [saved, known, deaths] = [0, 0, 0];
    counts.runs++;
    const queue = plans[Symbol.iterator]();
    for (;;) {
      const plan = queue.next().value;
      const {said, isKilled} = await live(folder, kind, final, plan);
      const [, from] = /^from (\d+)$/.exec(said[0]) ?? [];
      if (Number(from) !== known) complain(`it begins with ${from}, and the newest checkpoint has ${known}`);
      for (const line of said) saved = Number(/^saved (\d+)$/.exec(line)?.[1] ?? saved);
      known = newest(folder);
      if (known < saved) complain(`a save of ${saved} was over, and the newest checkpoint has ${known}`);
      if (!isKilled) break;
      const stage = /^at (.*)$/.exec(said.at(-1))?.[1] ?? 'between saves';
      if (plan.stage !== undefined && stage !== plan.stage) complain(`died at ${stage}, not ${plan.stage}`);
      deaths++;
      counts.kills.set(stage, (counts.kills.get(stage) ?? 0) + 1);
    }
    if (!readFileSync(final).equals(wanted)) complain('other weights than without kills');
    rmSync(folder, {recursive: true});
    return deaths;
  }

  return {endure, counts, bytes: wanted.length, problems, end: () => rmSync(place, {recursive: true})};
}

/** The `next` of a checkpoint. Throws unless every byte is there and the statistics are all what they were then. */
function readWhole(at) {
  const json = JSON.parse(readFileSync(join(at, 'model.json'), 'utf8'));
  const {next} = JSON.parse(json.userDefinedMetadata['tfjs-lora-checkpoint'].contents).data;
  const [{paths, weights}] = json.weightsManifest;
  const bytes = Buffer.concat(paths.map(path => readFileSync(join(at, path))));
  let [start, values] = [0, null];
  for (const {name, dtype, shape} of weights) {
    const end = start + SIZES[dtype] * shape.reduce((size, axis) => size * axis, 1);
    if (name === 'model/statistics') values = new Float32Array(bytes.buffer.slice(start, end));
    start = end;
  }
  if (start !== bytes.length) throw new Error(`${bytes.length} bytes where there should be ${start}`);
  if (values?.length !== 300_000) throw new Error('no statistics');
  const other = values.find(value => value !== next - 0.5);
  if (other !== undefined) throw new Error(`statistics of ${other} before gradient ${next}`);
  return next;
}

/** `tfjs-lora doctor`: what is installed, what runs, what would be faster, and known traps. */
import {existsSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {availableParallelism, totalmem} from 'node:os';
import {dirname, join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {installWasmKernels} from '../wasm/install.js';
import {readArguments} from './arguments.js';
import {type Attempt, type Candidate, candidates, hasDawn, start} from './backend.js';
import {version} from './package.js';
import {table} from './table.js';

const help = `Usage: tfjs-lora doctor [options]

Explains this machine: which tfjs backends are installed and start, how long each
takes for the same products of matrices, which one tfjs-lora takes, what would be
faster, and what is known to go wrong here.

  --json    print it as JSON
`;

/** One backend here. */
interface Checked {
  name: string;
  attempt: Attempt;
  /** Whether a command takes it unasked, unless one before it starts. */
  isTaken: boolean;
  /** Milliseconds for a product of 256 x 256 matrices with its two gradients; null where it does not run. */
  milliseconds: number | null;
}

interface Finding {
  level: 'note' | 'trap';
  text: string;
}

/** Runs `tfjs-lora doctor`. */
export async function doctor(args: string[]): Promise<void> {
  const given = readArguments(args, {json: 'flag', help: 'flag'} as const);
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  tf.enableProdMode();
  const backends: Checked[] = [];
  for (const candidate of candidates) backends.push(await check(candidate));
  const taken = backends.find(({isTaken}) => isTaken)?.name ?? 'none';
  const packages = installed();
  const findings = [...traps(backends, packages), ...advice(backends)];
  if (given.json) {
    const report = {node: process.version, tfjsLora: version(), packages, backends, taken, findings};
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  const rows = backends.map(({name, attempt, isTaken, milliseconds}) => [
    name,
    attempt.state === 'works' ? attempt.version : attempt.state,
    milliseconds === null ? '' : `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`,
    name === taken
      ? 'taken'
      : attempt.state !== 'works'
        ? attempt.why
        : isTaken
          ? ''
          : 'software: only when asked',
  ]);
  const memory = `${(totalmem() / 1024 ** 3).toFixed(0)} GiB`;
  console.log(
    [
      `Node      ${process.version}, ${process.platform} ${process.arch}, ${availableParallelism()} cores, ${memory}`,
      `tfjs-lora ${version()}`,
      ...[...packages].map(([name, found]) => `${name} ${found}`),
      '',
      table([['backend', 'version', '256 x 256', ''], ...rows], [0, 1, 3]),
      '',
      '256 x 256: a product and its two gradients, the median of up to five.',
      ...(findings.length > 0 ? [''] : []),
      ...findings.map(({level, text}) => `${level === 'trap' ? 'TRAP' : 'note'}  ${text}`),
    ].join('\n'),
  );
}

async function check(candidate: Candidate): Promise<Checked> {
  const {name} = candidate;
  const unasked = await start(candidate, false);
  const attempt = unasked.state === 'only when asked' ? await start(candidate, true) : unasked;
  const isTaken = unasked.state === 'works';
  if (attempt.state !== 'works') return {name, attempt, isTaken, milliseconds: null};
  const undo = candidate.name === 'wasm' ? installWasmKernels() : undefined;
  try {
    return {name, attempt, isTaken, milliseconds: await measure()};
  } catch (error) {
    const why = (error as Error).message.split('\n')[0]!;
    return {name, attempt: {state: 'does not start', why}, isTaken: false, milliseconds: null};
  } finally {
    undo?.();
  }
}

async function measure(): Promise<number> {
  const [x, w] = [tf.randomUniform([256, 256]), tf.randomUniform([256, 256])];
  const gradients = tf.grads((a: tf.Tensor, b: tf.Tensor) => tf.matMul(a, b));
  const times: number[] = [];
  const deadline = performance.now() + 3000;
  for (let i = 0; i < 6 && (i < 2 || performance.now() < deadline); i++) {
    const begun = performance.now();
    const results = gradients([x, w]);
    await Promise.all(results.map(result => result.data()));
    times.push(performance.now() - begun);
    tf.dispose(results);
  }
  tf.dispose([x, w]);
  // The first run compiles and packs.
  const later = times.slice(1).sort((a, b) => a - b);
  return later[Math.floor(later.length / 2)]!;
}

const names = [
  '@tensorflow/tfjs',
  '@tensorflow/tfjs-core',
  '@tensorflow/tfjs-layers',
  '@tensorflow/tfjs-converter',
  '@tensorflow/tfjs-backend-wasm',
  '@tensorflow/tfjs-backend-webgpu',
  '@tensorflow/tfjs-node',
  '@tensorflow/tfjs-node-gpu',
];

/** Versions by package, seen from this package. */
function installed(): Map<string, string> {
  const require = createRequire(import.meta.url);
  const found = new Map<string, string>();
  for (const name of names) {
    // Packages need not export their manifest: walk up from what they do export.
    try {
      let folder = dirname(require.resolve(name));
      while (dirname(folder) !== folder) {
        const path = join(folder, 'package.json');
        const manifest = existsSync(path)
          ? (JSON.parse(readFileSync(path, 'utf8')) as {name?: string; version?: string})
          : {};
        if (manifest.name === name) {
          found.set(name, manifest.version ?? 'unknown');
          break;
        }
        folder = dirname(folder);
      }
    } catch {
      // Not installed.
    }
  }
  return found;
}

function traps(backends: readonly Checked[], packages: ReadonlyMap<string, string>): Finding[] {
  const findings: Finding[] = [];
  const trap = (text: string) => findings.push({level: 'trap', text});
  const major = Number(process.versions.node.split('.')[0]);
  const hasNative = packages.has('@tensorflow/tfjs-node') || packages.has('@tensorflow/tfjs-node-gpu');
  if (hasNative && major >= 23) {
    trap(
      'tfjs-node 4.22 breaks at run time from Node 23 on (util.isNullOrUndefined is gone): use Node 20 or 22, or put ' +
        'the function back before the import',
    );
  }
  if (typeof process.getBuiltinModule !== 'function') {
    trap('saving to file:// needs Node 20.16 or newer: update Node');
  }
  const core = packages.get('@tensorflow/tfjs-core');
  for (const [name, found] of packages) {
    if (core !== undefined && found !== core) {
      trap(`${name} is ${found} and tfjs-core ${core}: every tfjs package must have the same version`);
    }
  }
  for (const {name, attempt} of backends) {
    if (name !== 'webgpu' && attempt.state === 'does not start' && packages.has(candidateModule(name))) {
      trap(`${name} is installed and does not start: ${attempt.why}`);
    }
  }
  if (backends.some(({name, attempt}) => name === 'wasm' && attempt.state === 'works')) {
    findings.push({
      level: 'note',
      text: 'wasm holds 4 GiB at most, weights, gradients and activations together: audit(model) tells what a run needs',
    });
    findings.push({
      level: 'note',
      text: `wasm as tfjs ships it lacks kernels for training: import 'tfjs-lora/wasm' (the commands here do)`,
    });
  }
  return findings;
}

const candidateModule = (name: string): string =>
  candidates.find(candidate => candidate.name === name)?.module ?? name;

function advice(backends: readonly Checked[]): Finding[] {
  const missing = (name: string) =>
    backends.some(b => b.name === name && b.attempt.state === 'not installed');
  const works = (name: string) => backends.some(b => b.name === name && b.attempt.state === 'works');
  const findings: Finding[] = [];
  const note = (text: string) => findings.push({level: 'note', text});
  if (missing('wasm')) note('faster than cpu, everywhere: npm install @tensorflow/tfjs-backend-wasm');
  if (missing('tensorflow') && missing('tensorflow-gpu')) {
    note(
      'native kernels, where libtensorflow can be downloaded: npm install @tensorflow/tfjs-node (an NVIDIA card with ' +
        'CUDA 11.2: @tensorflow/tfjs-node-gpu); tfjs-lora takes them when they are there, untested',
    );
  }
  if (hasDawn()) {
    note(
      'a program on webgpu in Node should end by itself: process.exit() may crash in Dawn, which then still runs ' +
        '(measured: about one in three)',
    );
  }
  if (missing('webgpu')) {
    note('a graphics card under Node: npm install webgpu @tensorflow/tfjs-backend-webgpu');
  } else if (!works('webgpu')) {
    const why = backends.find(({name}) => name === 'webgpu')?.attempt;
    const reason = why && 'why' in why ? why.why : 'it does not start';
    note(`webgpu: ${reason}; on Linux it needs Vulkan (libvulkan1 and a driver)`);
  }
  return findings;
}

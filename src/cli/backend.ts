/** Which tfjs backend a command runs on. */
import {execFile} from 'node:child_process';
import {createRequire} from 'node:module';
import * as tf from '@tensorflow/tfjs';
import {installWasmKernels} from '../wasm/install.js';
import {UsageError} from './usage-error.js';
import {type Graphics, openWebgpu} from './webgpu.js';

/** A backend that can be asked for: the package that brings it and the name it has in tfjs. */
export interface Candidate {
  readonly name: string;
  readonly module?: string;
  readonly registered: string;
  /** Finds its version in what its package exports. */
  readonly version: (module: Record<string, unknown>) => unknown;
  /** What has to be there before its package is imported; why it is not taken unasked, if so. */
  readonly prepare?: (isAsked: boolean) => Promise<Missing | undefined>;
}

/** Why a backend is not taken. */
interface Missing {
  readonly state: 'not installed' | 'does not start' | 'only when asked';
  readonly why: string;
}

/** What became of an attempt to start a backend. */
export type Attempt = {readonly state: 'works'; readonly version: string} | Missing;

const nodeVersion = ({version}: Record<string, unknown>) => (version as Record<string, string>)['tfjs-node'];

/** Fastest first. The two native ones are untested. */
export const candidates: readonly Candidate[] = [
  {
    name: 'tensorflow-gpu',
    module: '@tensorflow/tfjs-node-gpu',
    registered: 'tensorflow',
    version: nodeVersion,
  },
  {name: 'tensorflow', module: '@tensorflow/tfjs-node', registered: 'tensorflow', version: nodeVersion},
  {
    name: 'webgpu',
    module: '@tensorflow/tfjs-backend-webgpu',
    registered: 'webgpu',
    version: module => module['version_webgpu'] ?? tf.version.tfjs,
    prepare: prepareWebgpu,
  },
  {
    name: 'wasm',
    module: '@tensorflow/tfjs-backend-wasm',
    registered: 'wasm',
    version: module => module['version_wasm'],
  },
  {name: 'cpu', registered: 'cpu', version: () => tf.version['tfjs-backend-cpu']},
];

async function prepareWebgpu(isAsked: boolean): Promise<Missing | undefined> {
  if (!hasDawn()) return {state: 'not installed', why: 'npm install webgpu'};
  // Dawn writes its complaints to the terminal, past Node: the first look is taken in another process.
  const seen = await answerOf<Graphics | null>(graphicsScript);
  if (seen === undefined) {
    return {state: 'does not start', why: 'the look for a graphics adapter, in a process of its own, failed'};
  }
  if (seen === null) return {state: 'does not start', why: 'there is no graphics adapter'};
  if (seen.isSoftware && !isAsked) {
    return {state: 'only when asked', why: `its adapter is software (${seen.name}), not a graphics card`};
  }
  await openWebgpu();
  return undefined;
}

/** Whether the package is installed that brings webgpu to Node. */
export function hasDawn(): boolean {
  try {
    createRequire(import.meta.url).resolve('webgpu');
    return true;
  } catch {
    return false;
  }
}

/** It ends by itself: Dawn, which lives as long as something holds on to it, may crash within process.exit(). */
const graphicsScript = `import {openWebgpu} from ${JSON.stringify(new URL('webgpu.js', import.meta.url).href)};
  process.stdout.write(JSON.stringify((await openWebgpu()) ?? null));
  delete globalThis.navigator;`;

/**
 * What a script prints in a process of its own, as JSON; undefined where that is not whole. A process that crashes or
 * hangs once it has printed has answered.
 * @param timeout milliseconds after which it is ended
 */
export async function answerOf<T>(script: string, timeout = 20_000): Promise<T | undefined> {
  const args = ['--input-type=module', '--eval', script];
  const printed = await new Promise<string>(resolve =>
    execFile(process.execPath, args, {timeout, killSignal: 'SIGKILL'}, (_, stdout) => resolve(stdout)),
  );
  try {
    return JSON.parse(printed) as T;
  } catch {
    return undefined;
  }
}

/** Makes a backend the current one, or says why not. */
export async function start(candidate: Candidate, isAsked: boolean): Promise<Attempt> {
  const {module, registered, version, prepare} = candidate;
  try {
    const missing = await prepare?.(isAsked);
    if (missing) return missing;
    const exported = module === undefined ? {} : ((await import(module)) as Record<string, unknown>);
    if (!(await tf.setBackend(registered)) || tf.getBackend() !== registered) {
      return {state: 'does not start', why: 'tfjs refuses it'};
    }
    // Some start and cannot compute: tfjs-node under Node 23.
    const two = tf.tidy(() => tf.add(tf.tensor1d([1]), 1));
    const [value] = await two.data();
    two.dispose();
    if (value !== 2) return {state: 'does not start', why: `1 + 1 is ${value} there`};
    return {state: 'works', version: String(version(exported) ?? 'unknown')};
  } catch (error) {
    const {message} = error as Error;
    // Node's words, and a bundler's.
    const isAbsent = /cannot find (package|module)|could not resolve/i.test(message);
    if (isAbsent && module !== undefined && message.includes(module))
      return {state: 'not installed', why: `npm install ${module}`};
    return {state: 'does not start', why: message.split('\n')[0]!};
  }
}

const wasm = '@tensorflow/tfjs-backend-wasm';

/** What is said of the cpu backend: where it was asked for, wasm may be installed. */
async function cpuAdvice(isAsked: boolean): Promise<string> {
  const isInstalled =
    isAsked &&
    (await import(wasm).then(
      () => true,
      () => false,
    ));
  return `the cpu backend is slow; ${isInstalled ? 'faster: --backend wasm' : `for the wasm backend: npm install ${wasm}`}`;
}

/** A backend that was chosen. */
export interface Backend {
  name: string;
  version: string;
  /** Why it was chosen, for people. */
  note: string;
  /** What would be faster, where this one is slow. */
  advice: string | undefined;
}

/**
 * Makes the named backend the current one or, without a name, the fastest that is installed: the first that works. Those
 * behind it are not looked at. On wasm the kernels of `tfjs-lora/wasm` are installed too.
 * @param known what there is, fastest first
 * @throws UsageError if the named backend is unknown or does not start; it lists those that do
 */
export async function chooseBackend(
  asked?: string,
  known: readonly Candidate[] = candidates,
): Promise<Backend> {
  // Keeps the cpu backend from advertising another one on the console.
  tf.enableProdMode();
  const choice = known.filter(({name}) => asked === undefined || name === asked);
  if (choice.length === 0) {
    const names = known.map(({name}) => name).join(', ');
    throw new UsageError(`unknown backend "${asked}": --backend takes ${names}`);
  }
  const passed: {name: string; attempt: Missing}[] = [];
  for (const candidate of choice) {
    const attempt = await start(candidate, asked !== undefined);
    if (attempt.state !== 'works') {
      passed.push({name: candidate.name, attempt});
      continue;
    }
    if (candidate.name === 'wasm') installWasmKernels();
    const slow = candidate.name === 'cpu';
    return {
      name: candidate.name,
      version: attempt.version,
      note: asked === undefined ? `${candidate.name}: ${reasonFor(passed)}` : `${candidate.name}: as asked`,
      advice: slow ? await cpuAdvice(asked !== undefined) : undefined,
    };
  }
  const working: string[] = [];
  for (const candidate of known)
    if ((await start(candidate, true)).state === 'works') working.push(candidate.name);
  const {attempt} = passed[0]!;
  const what = attempt.state === 'not installed' ? 'is not installed' : `${attempt.state} (${attempt.why})`;
  throw new UsageError(`the backend ${asked} ${what}; there is ${working.join(', ')}`);
}

/** What was found and what was not, in a line. */
function reasonFor(passed: readonly {name: string; attempt: Missing}[]): string {
  const by = (state: Missing['state']) =>
    passed.filter(({attempt}) => attempt.state === state).map(({name}) => name);
  const parts = (['not installed', 'does not start', 'only when asked'] as const)
    .filter(state => by(state).length > 0)
    .map(state => `${by(state).join(', ')} ${state}`);
  return parts.length === 0 ? 'the fastest there is' : `the fastest here (${parts.join('; ')})`;
}

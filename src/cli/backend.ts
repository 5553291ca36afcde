/** Which tfjs backend a command runs on. */
import * as tf from '@tensorflow/tfjs';
import {installWasmKernels} from '../wasm/install.js';
import {UsageError} from './usage-error.js';

/** A backend that can be asked for: the package that brings it and the name it has in tfjs. */
interface Candidate {
  name: string;
  module?: string;
  registered: string;
  /** Finds its version in what its package exports. */
  version: (module: Record<string, unknown>) => unknown;
}

const nodeVersion = ({version}: Record<string, unknown>) => (version as Record<string, string>)['tfjs-node'];

/** Fastest first. The two native ones are untested. */
const candidates: Candidate[] = [
  {
    name: 'tensorflow-gpu',
    module: '@tensorflow/tfjs-node-gpu',
    registered: 'tensorflow',
    version: nodeVersion,
  },
  {name: 'tensorflow', module: '@tensorflow/tfjs-node', registered: 'tensorflow', version: nodeVersion},
  {
    name: 'wasm',
    module: '@tensorflow/tfjs-backend-wasm',
    registered: 'wasm',
    version: module => module['version_wasm'],
  },
  {name: 'cpu', registered: 'cpu', version: () => tf.version['tfjs-backend-cpu']},
];

/** Makes a backend the current one and gives its version; undefined if it is not installed or does not start. */
async function start({module, registered, version}: Candidate): Promise<string | undefined> {
  try {
    const exported = module === undefined ? {} : ((await import(module)) as Record<string, unknown>);
    if (!(await tf.setBackend(registered)) || tf.getBackend() !== registered) return undefined;
    return String(version(exported) ?? 'unknown');
  } catch {
    return undefined;
  }
}

const cpuAdvice = 'the cpu backend is slow; for the wasm backend: npm install @tensorflow/tfjs-backend-wasm';

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
 * Makes the named backend the current one or, without a name, the fastest that is installed. On wasm the
 * kernels of `tfjs-lora/wasm` are installed too.
 * @throws UsageError if the named backend is unknown or does not start; it lists those that do
 */
export async function chooseBackend(asked?: string): Promise<Backend> {
  // Keeps the cpu backend from advertising another one on the console.
  tf.enableProdMode();
  const choice = candidates.filter(({name}) => asked === undefined || name === asked);
  if (choice.length === 0) {
    const names = candidates.map(({name}) => name).join(', ');
    throw new UsageError(`unknown backend "${asked}": --backend takes ${names}`);
  }
  for (const candidate of choice) {
    const version = await start(candidate);
    if (version === undefined) continue;
    if (candidate.name === 'wasm') installWasmKernels();
    const note =
      asked === undefined
        ? `${candidate.name}: the fastest backend installed`
        : `${candidate.name}: as asked`;
    const slow = candidate.name === 'cpu';
    return {name: candidate.name, version, note, advice: slow ? cpuAdvice : undefined};
  }
  const working: string[] = [];
  for (const candidate of candidates)
    if ((await start(candidate)) !== undefined) working.push(candidate.name);
  throw new UsageError(`the backend ${asked} is not installed; there is ${working.join(', ')}`);
}

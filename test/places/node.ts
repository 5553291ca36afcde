/** One place of Node, in a process of its own: `node BUNDLE SETTING FILE`. Writes the file, or exits with 3 and says why. */
import {renameSync, writeFileSync} from 'node:fs';
import type {Measured, Setting} from './place.js';

const [setting, file] = [JSON.parse(process.argv[2]!) as Setting, process.argv[3]!];
let description = '';
if (setting.backend === 'webgpu') description = await provideWebgpu();
if (setting.backend === 'wasm') await import('@tensorflow/tfjs-backend-wasm');
// After the device is there: the backend's package asks for it when it is imported.
if (setting.backend === 'webgpu') await import('@tensorflow/tfjs-backend-webgpu');
const {measure}: typeof import('./place.js') = await import('./place.js');
const measured: Measured = await measure(setting, description);
// Whole or not at all: what ends this process later takes nothing from what was measured.
writeFileSync(`${file}.part`, JSON.stringify(measured));
renameSync(`${file}.part`, file);
if (setting.backend === 'webgpu') await releaseWebgpu();

/** Gives Node a `navigator.gpu`; what the adapter calls itself. */
async function provideWebgpu(): Promise<string> {
  process.env['XDG_RUNTIME_DIR'] ??= '/tmp';
  const name = 'webgpu';
  const found = (await import(name).catch((error: Error) => missing(error.message))) as {
    create(options: string[]): {
      requestAdapter(): Promise<{info: Record<'vendor' | 'architecture' | 'description', string>} | null>;
    };
    globals: object;
  };
  Object.assign(globalThis, found.globals);
  const gpu = found.create(['backend=vulkan']);
  Object.defineProperty(globalThis, 'navigator', {
    value: {gpu, userAgent: 'node'},
    configurable: true,
    writable: true,
  });
  const adapter = await gpu.requestAdapter();
  if (!adapter) return missing('no Vulkan device that Dawn can use; chromium brings one in software');
  return [adapter.info.vendor, adapter.info.architecture].filter(Boolean).join(' ');
}

/** Dawn keeps Node alive while something holds on to it, and may crash where process.exit() takes it away. */
async function releaseWebgpu(): Promise<void> {
  const {removeBackend} = await import('@tensorflow/tfjs');
  removeBackend('webgpu');
  Reflect.deleteProperty(globalThis, 'navigator');
}

function missing(why: string): never {
  console.error(why);
  process.exit(3);
}

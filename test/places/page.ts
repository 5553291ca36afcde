/** The page's side: backends of a browser, and a function to call. */
import * as tf from '@tensorflow/tfjs';
import {setWasmPaths} from '@tensorflow/tfjs-backend-wasm';
import '@tensorflow/tfjs-backend-webgpu';
import {measure, type Measured, type Setting} from './place.js';

setWasmPaths('/wasm/');

async function describe(backend: string): Promise<string> {
  if (backend === 'webgl') {
    const gl = document.createElement('canvas').getContext('webgl2');
    const info = gl?.getExtension('WEBGL_debug_renderer_info');
    return gl && info ? String(gl.getParameter(info.UNMASKED_RENDERER_WEBGL)) : '';
  }
  if (backend === 'webgpu') {
    const gpu = (navigator as unknown as {gpu?: {requestAdapter(): Promise<Adapter | null>}}).gpu;
    const adapter = await gpu?.requestAdapter();
    return adapter ? [adapter.info.vendor, adapter.info.architecture].filter(Boolean).join(' ') : '';
  }
  return '';
}
interface Adapter {
  info: {vendor: string; architecture: string};
}

/** Null where this browser has no such backend. */
async function run(setting: Setting): Promise<Measured | null> {
  const description = await describe(setting.backend);
  if (!description && /^webg/.test(setting.backend)) return null;
  const measured = await measure(setting, description);
  const threads =
    setting.backend === 'wasm'
      ? (await tf.env().getAsync('WASM_HAS_MULTITHREAD_SUPPORT'))
        ? 'threads'
        : 'one thread'
      : '';
  return {...measured, description: description || threads};
}

(globalThis as unknown as {places: object}).places = {run};

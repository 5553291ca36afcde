// The modules of the matrix as Node and a page can run them, straight from the sources.
import {mkdirSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const folder = join(root, 'temp/places');

/** @returns the files: node, to run; page, to load */
export async function bundle() {
  mkdirSync(folder, {recursive: true});
  const here = name => join(root, 'test/places', name);
  const common = {bundle: true, format: 'esm', target: 'es2022', logLevel: 'error'};
  await build({
    ...common,
    entryPoints: [here('node.ts')],
    platform: 'node',
    packages: 'external',
    splitting: true,
    outdir: folder,
    outExtension: {'.js': '.mjs'},
  });
  // tfjs asks for modules of Node where it finds itself in Node.
  const external = [
    'fs',
    'util',
    'crypto',
    'string_decoder',
    'node-fetch',
    'path',
    'os',
    'worker_threads',
    'perf_hooks',
  ];
  await build({
    ...common,
    entryPoints: [here('page.ts')],
    platform: 'browser',
    external,
    outfile: join(folder, 'page.js'),
  });
  return {node: join(folder, 'node.mjs'), page: join(folder, 'page.js')};
}

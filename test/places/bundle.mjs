// The modules of the matrix as Node and a page can run them, straight from the sources.
import {mkdirSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const folder = join(root, 'temp/places');

const common = {bundle: true, format: 'esm', target: 'es2022', logLevel: 'error'};

/** @returns the files: node, to run; page, to load */
export async function bundle() {
  mkdirSync(folder, {recursive: true});
  const here = name => join(root, 'test/places', name);
  await build({
    ...common,
    entryPoints: [here('node.ts')],
    platform: 'node',
    packages: 'external',
    splitting: true,
    outdir: folder,
    outExtension: {'.js': '.mjs'},
  });
  await bundlePage(here('page.ts'), join(folder, 'page.js'));
  return {node: join(folder, 'node.mjs'), page: join(folder, 'page.js')};
}

/** One module of a page, of everything it imports. */
export async function bundlePage(entry, outfile) {
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
    entryPoints: [entry],
    platform: 'browser',
    external,
    outfile,
  });
}

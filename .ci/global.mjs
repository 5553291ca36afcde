// Makes dist/browser/tfjs-lora.js of dist/: for a page with script tags and no bundler, the global `tfLora`. Holds what
// `tfjs-lora` and `tfjs-lora/adapter` export; takes tfjs from the global `tf`, of which there must be one copy only.
import {build} from 'esbuild';
import {fileURLToPath} from 'node:url';

const missing = 'tfjs-lora: there is no global tf; put the script tag of @tensorflow/tfjs before this one';

const globalTf = {
  name: 'global-tf',
  setup(build) {
    build.onResolve({filter: /^@tensorflow\/tfjs-core$/}, () => ({path: 'tf', namespace: 'global'}));
    build.onLoad({filter: /.*/, namespace: 'global'}, () => ({
      contents: `if (!globalThis.tf) throw new Error(${JSON.stringify(missing)});\nmodule.exports = globalThis.tf;`,
    }));
  },
};

await build({
  stdin: {
    contents: `export * from './dist/index.js';\nexport * from './dist/adapter/index.js';`,
    resolveDir: fileURLToPath(new URL('..', import.meta.url)),
  },
  outfile: fileURLToPath(new URL('../dist/browser/tfjs-lora.js', import.meta.url)),
  bundle: true,
  minify: true,
  format: 'iife',
  globalName: 'tfLora',
  target: 'es2022',
  plugins: [globalTf],
  logLevel: 'warning',
});

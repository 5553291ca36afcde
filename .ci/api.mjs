// Compares the public types with docs/api/*.api.md; `node .ci/api.mjs --write` brings the report up to date.
import {spawnSync} from 'node:child_process';
import {mkdirSync, readdirSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const extractor = join(root, 'node_modules', '@microsoft', 'api-extractor', 'bin', 'api-extractor');
mkdirSync(join(root, 'temp', 'api'), {recursive: true});
const write = process.argv.includes('--write') ? ['--local'] : [];
let failed = false;
for (const config of readdirSync(join(here, 'api'))) {
  const args = [extractor, 'run', ...write, '--config', join(here, 'api', config)];
  const {status, stdout} = spawnSync(process.execPath, args, {cwd: root, encoding: 'utf8'});
  if (status === 0) {
    console.log(`${config}: the report is up to date`);
    continue;
  }
  console.log(stdout);
  failed = true;
}
if (failed) {
  console.error('The public API differs from docs/api. If that is meant: node .ci/api.mjs --write');
  process.exit(1);
}

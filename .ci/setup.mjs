// Brings a checkout to the state the scripts need: dependencies as the lockfile says, dist/ newer than src/.
// Runs before `npm start` and `npm test`; does nothing when there is nothing to do. No dependencies of its own.
import {spawnSync} from 'node:child_process';
import {existsSync, readFileSync, readdirSync, statSync, writeFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stamp = join(root, 'node_modules', '.tfjs-lora-lock.json');
const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  console.log('Installing the dependencies (once) …');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {shell: process.platform === 'win32'});
  writeFileSync(stamp, lock);
}
const built = join(root, 'dist', 'index.js');
if (!existsSync(built) || newest(join(root, 'src')) > statSync(built).mtimeMs || newer('tsconfig.json')) {
  console.log('Building …');
  run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json']);
  run(process.execPath, [join(root, '.ci', 'global.mjs')]);
}

function newer(file) {
  return statSync(join(root, file)).mtimeMs > statSync(built).mtimeMs;
}

function newest(folder) {
  return Math.max(
    statSync(folder).mtimeMs,
    ...readdirSync(folder, {withFileTypes: true}).map(entry => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? newest(path) : statSync(path).mtimeMs;
    }),
  );
}

function run(command, args, options = {}) {
  const {status, error} = spawnSync(command, args, {cwd: root, stdio: 'inherit', ...options});
  if (error) console.error(error.message);
  if (status !== 0) process.exit(status ?? 1);
}

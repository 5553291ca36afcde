import {spawn, spawnSync} from 'node:child_process';
import {existsSync, openSync} from 'node:fs';
import {expect, test} from 'vitest';

const main = 'dist/cli/main.js';

test.runIf(existsSync('/dev/full'))('a full disk ends the program without a stack', () => {
  const {status, stderr} = spawnSync(process.execPath, [main, '--help'], {
    stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([1, '']);
});

test.skipIf(process.platform === 'win32')('a reader that goes away ends it without a stack', async () => {
  const child = spawn(process.execPath, [main, 'adapt', '--help'], {stdio: ['ignore', 'pipe', 'pipe']});
  child.stdout.destroy();
  let told = '';
  child.stderr.on('data', part => (told += String(part)));
  const status = await new Promise(done => child.on('close', done));
  expect([status, told]).toEqual([141, '']);
});

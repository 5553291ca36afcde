// The places in a save where a training can be told to die, and a file system that comes by them.
import * as fs from 'node:fs/promises';
import {basename} from 'node:path';

/** In the order a save comes by them. Of a write there are four pieces. */
export const STAGES = [
  'begun',
  'encoding',
  'folder made',
  ...['weights', 'model.json'].flatMap(what => [
    `${what} opened`,
    `${what} partly written`,
    `${what} written`,
    `${what} synced`,
    `${what} renamed`,
  ]),
  'folder synced',
  'old model.json removed',
  'old weights removed',
  'old folder removed',
];

const nameOf = path => (basename(path).includes('model.json') ? 'model.json' : 'weights');

/** Node's own, which calls `at` with each stage. */
export function stagedFiles(at) {
  return {
    ...fs,
    async open(path, flags) {
      const file = await fs.open(path, flags);
      if (flags === 'r') {
        return {sync: () => file.sync().then(() => at('folder synced')), close: () => file.close()};
      }
      const what = nameOf(path);
      at(`${what} opened`);
      return {
        async writeFile(bytes) {
          const size = Math.ceil(bytes.length / 4);
          for (let start = 0; start < bytes.length; start += size) {
            await file.writeFile(bytes.subarray(start, start + size));
            if (start + size < bytes.length) at(`${what} partly written`);
          }
          at(`${what} written`);
        },
        sync: () => file.sync().then(() => at(`${what} synced`)),
        close: () => file.close(),
      };
    },
    rename: (from, to) => fs.rename(from, to).then(() => at(`${nameOf(to)} renamed`)),
    rm: (path, options) => fs.rm(path, options).then(() => at(`old ${nameOf(path)} removed`)),
    rmdir: path => fs.rmdir(path).then(() => at('old folder removed')),
    mkdir: path => fs.mkdir(path).then(() => at('folder made')),
  };
}

import {type FileSystem, node} from '../../src/adapter/file-system.js';

/**
 * Node's file system that breaks off at the n-th thing it is asked to change (0 for the first): that one fails, and from
 * then on everything does, as if the process were gone. With `half` a write that fails has written half of its bytes.
 */
export function failingAt(n: number, half = false): {fs: FileSystem; readonly changes: string[]} {
  const {fs} = node();
  const changes: string[] = [];
  const change = async <T>(
    what: string,
    work: () => Promise<T>,
    atFailure?: () => Promise<unknown>,
  ): Promise<T> => {
    const at = changes.push(what) - 1;
    if (at === n) await atFailure?.();
    if (at >= n) throw Object.assign(new Error(`no more ${what}`), {code: 'EIO'});
    return work();
  };
  return {
    changes,
    fs: {
      stat: path => fs.stat(path),
      readdir: path => fs.readdir(path),
      readFile: path => fs.readFile(path),
      mkdir: path => change('mkdir', () => fs.mkdir(path)),
      rm: (path, options) => change('rm', () => fs.rm(path, options)),
      rmdir: path => change('rmdir', () => fs.rmdir(path)),
      rename: (from, to) => change('rename', () => fs.rename(from, to)),
      async open(path, flags) {
        const file = await change('open', () => fs.open(path, flags));
        return {
          writeFile: bytes =>
            change(
              'write',
              () => file.writeFile(bytes),
              async () => half && file.writeFile(bytes.subarray(0, bytes.length >> 1)),
            ),
          sync: () => change('sync', () => file.sync()),
          // A file that is open closes whatever happens.
          close: () => file.close(),
        };
      },
    },
  };
}

/** How many changes `work` asks for when nothing fails. */
export async function changesOf(work: (fs: FileSystem) => Promise<unknown>): Promise<number> {
  const {fs, changes} = failingAt(Infinity);
  await work(fs);
  return changes.length;
}

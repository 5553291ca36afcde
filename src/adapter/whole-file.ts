import {digest} from './digest.js';
import {type FileSystem, node, placeOfProcess} from './file-system.js';

const TEMPORARY = /^\.(.+)\.([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-\d+\.tmp$/;
/** A temporary file older than this is nobody's, in milliseconds. */
const STALE = 24 * 60 * 60 * 1000;

/** Bytes that a name may have with what is put around it; file systems take 255. */
const LONGEST_NAME = 180;

/** Tells apart the threads of a process, each of which counts by itself. */
const thread = Math.floor(Math.random() * 2 ** 32)
  .toString(16)
  .padStart(8, '0');
let count = 0;
/** Temporary files that this thread is writing. */
const writing = new Set<string>();

/**
 * Writes a file that appears whole or not at all, whatever happens in between: the bytes go to a temporary file in the
 * same folder and to the disk, which is then renamed. Until that the old file stays as it was. Folders are made as
 * needed. What writers of this path left behind when they were killed is removed.
 *
 * @param path A path, not an address.
 */
export async function writeWhole(path: string, bytes: Uint8Array, fs: FileSystem = node().fs): Promise<void> {
  const {path: paths, process} = node();
  const [folder, name] = [paths.dirname(path), paths.basename(path)];
  await makeFolder(folder, fs);
  const base = shortened(name);
  await removeLeftovers(folder, other => other === base, fs);
  const temporary = paths.join(folder, `.${base}.${place()}-${process.pid}-${thread}-${++count}.tmp`);
  writing.add(temporary);
  try {
    const file = await fs.open(temporary, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path, fs);
  } catch (error) {
    await fs.rm(temporary, {force: true}).catch(() => {});
    throw error;
  } finally {
    writing.delete(temporary);
  }
  await syncFolder(folder, fs);
}

/** Whether a name is that of a file that is, or was, being written. */
export const isTemporary = (name: string): boolean => TEMPORARY.test(name);

/** Removes what writers that are gone have left in a folder, of the files that are meant. */
export async function removeLeftovers(
  folder: string,
  isMeant: (base: string) => boolean,
  fs: FileSystem,
): Promise<void> {
  const {path: paths} = node();
  try {
    for (const name of await fs.readdir(folder)) {
      const [, base, where, pid, by] = TEMPORARY.exec(name) ?? [];
      if (base === undefined || !isMeant(base)) continue;
      const file = paths.join(folder, name);
      if (
        isAbandoned(where!, Number(pid), by === thread && !writing.has(file)) ||
        Date.now() - (await fs.stat(file)).mtimeMs > STALE
      ) {
        await fs.rm(file, {force: true});
      }
    }
  } catch {
    // It was only tidying up.
  }
}

/** Whether who wrote a temporary file is known to be gone; a thread knows of its own, `isLeft`. */
function isAbandoned(where: string, pid: number, isLeft: boolean): boolean {
  const {process} = node();
  // One of this process may be another thread's, which is writing it.
  if (where !== place() || pid === process.pid) return isLeft;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}

/** Where the numbers of processes mean what they do here. */
const place = () => digest(new TextEncoder().encode(placeOfProcess())).slice(0, 8);

/** A name, or what stands for it where nothing could be put around it. */
function shortened(name: string): string {
  const bytes = new TextEncoder().encode(name);
  return bytes.length <= LONGEST_NAME ? name : digest(bytes);
}

/** Renames. On Windows a scanner or an indexer may have a new file open for a moment, and no one may rename it then. */
async function rename(from: string, to: string, fs: FileSystem): Promise<void> {
  for (let wait = 10; ; wait *= 2) {
    try {
      return await fs.rename(from, to);
    } catch (error) {
      const mayPass =
        node().process.platform === 'win32' && ['EPERM', 'EACCES', 'EBUSY'].includes(codeOf(error));
      if (!mayPass || wait > 1000) throw error;
      await new Promise(resolve => setTimeout(resolve, wait));
    }
  }
}

const codeOf = (error: unknown) => String((error as {code?: unknown}).code);

/** Makes a folder and those above it. Node's own recursive mkdir never returns for a place in /proc. */
async function makeFolder(folder: string, fs: FileSystem): Promise<void> {
  if (
    await fs.stat(folder).then(
      () => true,
      () => false,
    )
  )
    return;
  const above = node().path.dirname(folder);
  if (above !== folder) await makeFolder(above, fs);
  try {
    await fs.mkdir(folder);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  }
  await syncFolder(above, fs);
}

/** Makes a rename outlast a power cut, where the system can: Windows opens no folders. */
async function syncFolder(folder: string, fs: FileSystem): Promise<void> {
  if (node().process.platform === 'win32') return;
  try {
    const handle = await fs.open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    // Some network file systems know no such thing, and a folder one may write to need not be one to read.
    if (!['EINVAL', 'ENOTSUP', 'EISDIR', 'EACCES', 'EPERM'].includes(codeOf(error))) throw error;
  }
}

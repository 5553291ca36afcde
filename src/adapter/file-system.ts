/** What is used of Node's `fs/promises`; tests put one in its place that fails. */
export interface FileSystem {
  open(path: string, flags: string): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  rm(path: string, options: {force: boolean}): Promise<void>;
  rmdir(path: string): Promise<void>;
  mkdir(path: string): Promise<unknown>;
  readFile(path: string): Promise<Uint8Array>;
  readdir(path: string): Promise<string[]>;
  stat(path: string): Promise<{isDirectory(): boolean; readonly mtimeMs: number; readonly size: number}>;
}

export interface OpenFile {
  writeFile(bytes: Uint8Array): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

interface Process {
  readonly pid: number;
  readonly platform: string;
  readonly versions?: {readonly node?: string};
  getBuiltinModule?(name: string): unknown;
  kill(pid: number, signal: 0): boolean;
}

const theProcess = (): Process | undefined => (globalThis as {process?: Process}).process;

/** Whether this is Node, of whatever version. */
export const isNode = (): boolean => theProcess()?.versions?.node !== undefined;

/** Node's own modules, which no bundler needs to see. Throws where there are none. */
export function node(): {
  readonly fs: FileSystem;
  readonly path: {
    join(...parts: string[]): string;
    dirname(path: string): string;
    basename(path: string): string;
    resolve(path: string): string;
  };
  readonly process: Process;
} {
  const process = theProcess();
  if (!process?.getBuiltinModule) {
    throw new Error(
      isNode()
        ? `file:// needs Node 20.16 or later, and this is ${process?.versions?.node}: update Node`
        : 'file:// is for Node: in a browser use indexeddb://name, localstorage://name or downloads://name',
    );
  }
  const get = <T>(name: string) => process.getBuiltinModule!(name) as T;
  return {
    fs: get<FileSystem>('node:fs/promises'),
    path: get('node:path'),
    process,
  };
}

let known: string | undefined;

/** Within which a number means one process: this machine since it was started, and on Linux this container. */
export function placeOfProcess(): string {
  const get = <T>(name: string) => theProcess()!.getBuiltinModule!(name) as T;
  try {
    const fs = get<{
      readFileSync(path: string, encoding: 'utf8'): string;
      readlinkSync(path: string): string;
    }>('node:fs');
    known ??=
      fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8') + fs.readlinkSync('/proc/self/ns/pid');
  } catch {
    known = get<{hostname(): string}>('node:os').hostname();
  }
  return known;
}

/**
 * The path of a `file://` address: what follows the two slashes, as it stands, as tfjs-node reads it. So `file://a/b` is
 * relative, `file:///a/b` absolute, spaces are spaces and percent signs are percent signs. On Windows `file:///C:/a`
 * is `C:/a`.
 */
export function filePath(url: string, platform: string = node().process.platform): string {
  const path = url.slice('file://'.length);
  if (!url.startsWith('file://') || path === '')
    throw new Error(`'${url}' is no address of a file: write file://folder`);
  return platform === 'win32' && /^[\\/][A-Za-z]:[\\/]/.test(path) ? path.slice(1) : path;
}

/** Whether an error says that a file or folder is not there. */
export const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes(String((error as {code?: unknown} | null)?.code));

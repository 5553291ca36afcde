import {dirname} from 'node:path';
import type {FileSystem} from '../../src/adapter/file-system.js';

interface Entry {
  /** Null: a folder. */
  now: Uint8Array | null;
  /** What is on the disk of it. */
  kept: Uint8Array | null;
}

interface Change {
  readonly folder: string;
  readonly what: 'put' | 'removed';
  readonly to: (entries: Map<string, Entry>) => void;
}

/** What a power cut leaves of changes to folders that nobody has synced: POSIX promises nothing. */
export const CUTS = {
  'nothing that was not synced': () => false,
  'names without their contents': () => true,
  'only what was put': ({what}: Change) => what === 'put',
  'only what was removed': ({what}: Change) => what === 'removed',
} satisfies Record<string, (change: Change) => boolean>;

/**
 * A file system in memory that remembers what was synced: the content of a file by a sync of the file, names (made,
 * renamed, removed) by a sync of their folder. The n-th change (0 for the first) fails as at a power cut, and all after
 * it do.
 */
export class Disk {
  private changes = 0;
  private pending: Change[] = [];
  private readonly kept: Map<string, Entry>;

  constructor(
    private readonly entries = new Map<string, Entry>([['/', {now: null, kept: null}]]),
    private readonly cutAt = Infinity,
  ) {
    this.kept = new Map(entries);
  }

  /** How many changes were asked for. */
  get count(): number {
    return this.changes;
  }

  /** The same disk, all of it synced, with a power cut at another change. */
  copy(cutAt = Infinity): Disk {
    const entries = [...this.entries].map(([path, {now}]) => [path, {now, kept: now}] as const);
    return new Disk(new Map(entries), cutAt);
  }

  /** What is there when the power is back. */
  afterCut(survives: (change: Change) => boolean): Disk {
    const left = new Map(this.kept);
    for (const change of this.pending) if (survives(change)) change.to(left);
    for (const path of [...left.keys()].sort())
      if (path !== '/' && !left.has(dirname(path))) left.delete(path);
    return new Disk(new Map([...left].map(([path, {kept}]) => [path, {now: kept, kept}])));
  }

  private change(): void {
    if (this.changes++ >= this.cutAt) throw Object.assign(new Error('no power'), {code: 'EIO'});
  }

  private note(path: string, what: Change['what'], to: Change['to']): void {
    to(this.entries);
    this.pending.push({folder: dirname(path), what, to});
  }

  private at(path: string): Entry {
    const entry = this.entries.get(path);
    if (entry) return entry;
    throw Object.assign(new Error(`no ${path}`), {code: 'ENOENT'});
  }

  readonly fs: FileSystem = {
    open: async (path, flags) => {
      if (flags === 'r') {
        this.at(path);
        return {
          writeFile: () => Promise.reject(new Error('opened to read')),
          sync: async () => {
            this.change();
            for (const change of this.pending) if (change.folder === path) change.to(this.kept);
            this.pending = this.pending.filter(({folder}) => folder !== path);
          },
          close: async () => {},
        };
      }
      this.change();
      this.at(dirname(path));
      if (flags === 'wx' && this.entries.has(path)) throw Object.assign(new Error(path), {code: 'EEXIST'});
      const entry: Entry = {now: new Uint8Array(), kept: new Uint8Array()};
      this.note(path, 'put', entries => entries.set(path, entry));
      return {
        writeFile: async bytes => {
          this.change();
          entry.now = bytes.slice();
        },
        sync: async () => {
          this.change();
          entry.kept = entry.now;
        },
        close: async () => {},
      };
    },
    rename: async (from, to) => {
      this.change();
      const entry = this.at(from);
      this.note(to, 'put', entries => {
        entries.delete(from);
        entries.set(to, entry);
      });
    },
    rm: async path => {
      this.change();
      this.note(path, 'removed', entries => entries.delete(path));
    },
    rmdir: async path => {
      this.change();
      this.note(path, 'removed', entries => entries.delete(path));
    },
    mkdir: async path => {
      this.change();
      this.note(path, 'put', entries => entries.set(path, {now: null, kept: null}));
    },
    readFile: async path => this.at(path).now!,
    readdir: async path => {
      const names = [...this.entries.keys()].filter(each => each !== '/' && dirname(each) === path);
      return names.map(each => each.slice(path === '/' ? 1 : path.length + 1));
    },
    stat: async path => {
      const {now} = this.at(path);
      return {isDirectory: () => now === null, mtimeMs: Date.now(), size: now?.length ?? 0};
    },
  };
}

import type {Variable} from '@tensorflow/tfjs-core';
import {engine, variable} from '@tensorflow/tfjs-core';
import {isGone, type Named} from './tensors.js';

export type Variables = Readonly<Record<string, Variable>>;

/**
 * The variables one attachment lives in, by section. Not trainable, so that `minimize` without a list of variables
 * passes them by; variables are never tidied away.
 */
export class Store {
  private readonly sections = new Map<string, Record<string, Variable>>();

  /** `prefix` is how the variables are called; a number makes it unique. */
  constructor(private readonly prefix: string) {}

  get(section: string): Variables {
    return this.sections.get(section) ?? NOTHING;
  }

  has(section: string): boolean {
    return this.sections.has(section);
  }

  /** Writes tensors under their keys: makes the variables the first time, assigns to them afterwards. */
  put(section: string, tensors: Named): void {
    const variables = this.sections.get(section) ?? {};
    for (const [key, tensor] of Object.entries(tensors)) {
      const held = variables[key];
      if (held) held.assign(tensor);
      else variables[key] = variable(tensor, false, uniqueName(`${this.prefix}/${section}/${key}`));
    }
    this.sections.set(section, variables);
  }

  /** Every variable under `section/key`, in the order they were made. */
  all(): Variables {
    return Object.fromEntries(
      [...this.sections].flatMap(([section, variables]) =>
        Object.entries(variables).map(([key, held]) => [`${section}/${key}`, held] as const),
      ),
    );
  }

  /** Takes over what `all` gave; the tensors stay the caller's. */
  restore(tensors: Named): void {
    for (const [path, tensor] of Object.entries(tensors)) {
      const cut = path.indexOf('/');
      this.put(path.slice(0, cut), {[path.slice(cut + 1)]: tensor});
    }
  }

  drop(section: string): void {
    for (const held of Object.values(this.get(section))) if (!isGone(held)) held.dispose();
    this.sections.delete(section);
  }

  dispose(): void {
    for (const section of [...this.sections.keys()]) this.drop(section);
  }
}

const NOTHING: Variables = Object.freeze({});

/** A name that no variable has yet. */
export function uniqueName(name: string): string {
  const taken = engine().registeredVariables;
  let unique = name;
  for (let i = 1; unique in taken; i++) unique = `${name}_${i}`;
  return unique;
}

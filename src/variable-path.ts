import type {Variable} from '@tensorflow/tfjs-core';
import {plainName} from './targets.js';

const given = new WeakMap<Variable, string>();

/** Says what a variable is called in files, where its name may not be read for it: that of a node may end in a number. */
export function givePath(variable: Variable, path: string): void {
  given.set(variable, path);
}

/** What a variable is called in files: what was given, else its name without the number that tfjs appends. */
export const pathOf = (variable: Variable): string => given.get(variable) ?? plainName(variable.name);

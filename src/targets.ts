import type {Variable} from '@tensorflow/tfjs-core';
import type {Parametrization} from './parametrization.js';
import {recipeOf} from './recipe.js';

/** A weight as the rules see it. */
export interface WeightInfo {
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * Which weights a rule means:
 * a RegExp tested on the name, with and without the `_1` that tfjs gives a second weight of that name; a string, or
 * several, that is the name or whole segments of it (`'block0/attention'` means `block0/attention/query/kernel`
 * too); or a predicate.
 */
export type Pattern = RegExp | string | readonly string[] | ((weight: WeightInfo) => boolean);

/** What happens to a weight: a parametrization of its own, 'train' as it is with all its numbers, or 'freeze'. */
export type Treatment = Parametrization | 'train' | 'freeze';

/** Ordered rules, the first that matches wins. */
export type Rules = readonly (readonly [Pattern, Treatment])[];

/** One pattern for the optimizer's own parametrization, or rules. */
export type Targets = Pattern | Rules;

/** What was decided for one weight, and why. */
export interface Decision {
  readonly treatment: Treatment;
  /** The rule in words, for tables. */
  readonly rule: string;
  readonly why: string;
}

interface Rule {
  readonly text: string;
  readonly matches: (weight: WeightInfo) => boolean;
  readonly treatment: Treatment;
}

/** The matrix a weight is seen as: the last axis is n, all others together are m. */
export function matrixShape(shape: readonly number[]): [m: number, n: number] {
  const n = shape.at(-1) ?? 1;
  return [shape.slice(0, -1).reduce((product, axis) => product * axis, 1), n];
}

/** Decides once per weight, by the rules; remembers what it saw. */
export class Plan {
  private readonly rules: readonly Rule[] | undefined;
  private readonly decisions = new WeakMap<Variable, Decision>();
  private checked = false;

  constructor(
    private readonly parametrization: Parametrization,
    targets: Targets | undefined,
    private readonly rest: 'train' | 'freeze',
  ) {
    this.rules = targets === undefined ? undefined : readRules(targets, parametrization);
  }

  decide(variable: Variable): Decision {
    let decision = this.decisions.get(variable);
    if (!decision) this.decisions.set(variable, (decision = this.judge(variable)));
    return decision;
  }

  /** Whether this weight is trained at all. */
  trains(variable: Variable): boolean {
    return this.decide(variable).treatment !== 'freeze';
  }

  /** The rules that match none of the weights, in words. */
  idleRules(variables: readonly Variable[]): string[] {
    return (this.rules ?? []).filter(rule => !variables.some(v => rule.matches(v))).map(({text}) => text);
  }

  /**
   * Throws when a rule matches none of the weights, or nothing would be trained. Asked once, for the weights of the
   * first step: a later step may well bring fewer.
   */
  check(variables: readonly Variable[]): void {
    if (this.checked) return;
    const seen = `The weights seen: ${variables.map(v => `${v.name} [${v.shape}]`).join(', ') || 'none'}.`;
    const [idle] = this.idleRules(variables);
    if (idle) throw new Error(`targets: the rule ${idle} matches no weight. ${seen}`);
    if (!variables.some(v => this.trains(v))) {
      throw new Error(
        this.rules
          ? `targets: every weight is frozen, so nothing would be trained. ${seen}`
          : `no weight is large enough for ${this.parametrization.name} to train fewer numbers than it has. ` +
              `Lower the rank, name targets, or set rest: 'train'. ${seen}`,
      );
    }
    this.checked = true;
  }

  private judge(variable: Variable): Decision {
    const weight: WeightInfo = {name: variable.name, shape: variable.shape};
    if (variable.dtype !== 'float32') {
      return {treatment: 'freeze', rule: 'dtype', why: `${variable.dtype} weights have no gradient`};
    }
    if (variable.size === 0) return {treatment: 'freeze', rule: 'size', why: 'it holds no numbers'};
    const rule = this.rules?.find(candidate => candidate.matches(weight));
    if (rule) {
      const {treatment} = rule;
      if (typeof treatment === 'string') return {treatment, rule: rule.text, why: 'named by a rule'};
      if (savesNothing(treatment, weight.shape)) {
        return {
          treatment: 'train',
          rule: rule.text,
          why: `${treatment.name} would train as many numbers or more`,
        };
      }
      return {treatment, rule: rule.text, why: 'named by a rule'};
    }
    if (!this.rules) {
      const [m, n] = matrixShape(weight.shape);
      if (weight.shape.length >= 2 && !savesNothing(this.parametrization, weight.shape)) {
        return {treatment: this.parametrization, rule: 'default', why: `a matrix of ${m} x ${n}`};
      }
      const small = weight.shape.length < 2 ? 'not a matrix' : 'too small for the rank to save anything';
      return {treatment: this.rest, rule: `rest: '${this.rest}'`, why: small};
    }
    return {treatment: this.rest, rule: `rest: '${this.rest}'`, why: 'no rule matches'};
  }
}

/** Whether the parametrization says that it would train no fewer numbers than the weight has. */
function savesNothing(p: Parametrization, shape: readonly number[]): boolean {
  const [m, n] = matrixShape(shape);
  const trained = p.trained?.([m, n]);
  return trained !== undefined && trained >= m * n;
}

function readRules(targets: Targets, parametrization: Parametrization): readonly Rule[] {
  if (isRules(targets)) {
    if (targets.length === 0) throw new Error('targets: an empty list of rules trains nothing; leave it out');
    return targets.map(([pattern, treatment], i) => {
      if (treatment !== 'train' && treatment !== 'freeze' && !isParametrization(treatment)) {
        throw new TypeError(
          `targets: rule ${i + 1} (${describePattern(pattern)}) must say 'train', 'freeze' or a parametrization ` +
            `such as lora({rank: 8}), not ${String(treatment)}`,
        );
      }
      return {text: describePattern(pattern), matches: matcher(pattern), treatment};
    });
  }
  const names = Array.isArray(targets) ? (targets as readonly string[]) : undefined;
  if (names?.length === 0) throw new Error('targets: an empty list of names trains nothing; leave it out');
  // Every name of a list is a rule of its own, so that a misspelt one is found.
  return (names ?? [targets as Pattern]).map(pattern => ({
    text: describePattern(pattern),
    matches: matcher(pattern),
    treatment: parametrization,
  }));
}

function isRules(targets: Targets): targets is Rules {
  return Array.isArray(targets) && (targets as readonly unknown[]).some(rule => Array.isArray(rule));
}

export function isParametrization(value: unknown): value is Parametrization {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return false;
  const members = value as Partial<Record<string, unknown>>;
  return (
    typeof members['init'] === 'function' &&
    (typeof members['delta'] === 'function' || typeof members['compose'] === 'function')
  );
}

/** A pattern as a predicate. */
export function matcher(pattern: Pattern): (weight: WeightInfo) => boolean {
  if (pattern instanceof RegExp) {
    // A global or sticky expression remembers where it stopped.
    const stateless = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''));
    return weight => stateless.test(weight.name) || stateless.test(plainName(weight.name));
  }
  if (typeof pattern === 'function') return weight => Boolean(pattern(weight));
  if (typeof pattern === 'string') return weight => isSegmentOf(pattern, weight.name);
  if (Array.isArray(pattern) && pattern.every(name => typeof name === 'string')) {
    return weight => pattern.some(name => isSegmentOf(name as string, weight.name));
  }
  throw new TypeError(`targets: ${String(pattern)} is no RegExp, name, list of names or predicate`);
}

/** Whether `part` is the name or a run of whole segments of it; tfjs's `_1` for a second `kernel` does not count. */
function isSegmentOf(part: string, name: string): boolean {
  return `/${name}/`.includes(`/${part}/`) || `/${plainName(name)}/`.includes(`/${part}/`);
}

/** The name without the number tfjs appends to make it unique, e.g. after a model was loaded again. */
export function plainName(name: string): string {
  return name.replace(/_\d+$/, '');
}

/** A pattern in words. */
export function describePattern(pattern: Pattern): string {
  const call = typeof pattern === 'function' && recipeOf(pattern);
  if (call) return `${call.name}(${call.args.map(arg => JSON.stringify(arg)).join(', ')})`;
  if (typeof pattern === 'function') return pattern.name ? `${pattern.name}()` : 'a predicate';
  return pattern instanceof RegExp ? String(pattern) : JSON.stringify(pattern);
}

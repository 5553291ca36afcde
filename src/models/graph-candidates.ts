import {util} from '@tensorflow/tfjs-core';
import {describePattern, matcher, type Pattern, type WeightInfo} from '../targets.js';
import {asynchronous, type Blocked, GradientPaths, needed} from './gradient-path.js';
import {type Cuts, cutsOf, inOptions, lastOpen} from './graph-cuts.js';
import type {GraphInternals, GraphNode} from './graph-model.js';
import {isWeight} from './graph-weights.js';

export interface TrainableGraphModelOptions {
  /** Which of the weights become variables, by path or node name. Default: all that a gradient can reach. */
  readonly targets?: Pattern;
  /** Constants to make variables besides: scalars, statistics of a batch norm. Default: none. */
  readonly include?: Pattern;
  /** What the loss is made of, by signature key or node name: ops behind it block nothing. Default: the model's outputs. */
  readonly outputs?: string | readonly string[];
  /** Nodes that `apply` is fed at, where those are not the model's inputs: what lies before is not run. */
  readonly inputs?: string | readonly string[];
}

/** One constant of a graph that can be trained. */
interface Candidate extends WeightInfo {
  readonly node: GraphNode;
  readonly isWeight: boolean;
  readonly obstacles: ReadonlyMap<string, {readonly node: GraphNode; readonly why: string}>;
}

/** What the graph has that could be trained, and what stands in the way. */
export interface Survey {
  readonly candidates: readonly Candidate[];
  /** What the loss is made of, as it was named. */
  readonly outputs: readonly string[];
  /** The nodes that are fed in the place of the model's inputs. */
  readonly fed: readonly string[];
  /** The obstacles, with the weights that each is in the way of. */
  blockedOf(candidates: readonly Candidate[]): Blocked[];
  /** What could be named so that more can be trained. */
  cuts(): Cuts;
}

function namesIn(
  key: 'inputs' | 'outputs',
  options: TrainableGraphModelOptions,
): readonly string[] | undefined {
  const given: unknown = options[key];
  if (given === undefined) return undefined;
  const names: unknown[] = Array.isArray(given) ? given : [given];
  if (names.length === 0) throw new Error(`${key}: [] names no node; leave it out for those of the model`);
  const wrong = names.find(name => typeof name !== 'string');
  if (wrong !== undefined) {
    throw new TypeError(
      `${key} takes names of nodes or signature keys, e.g. ['dense/MatMul'], not ${String(wrong)}`,
    );
  }
  return names as string[];
}

/** @throws Error when an op would have to run asynchronously, or the graph has no node of a name */
export function survey({executor, signature}: GraphInternals, options: TrainableGraphModelOptions): Survey {
  const outputs = namesIn('outputs', options) ?? executor.outputNodes;
  const inputs = namesIn('inputs', options) ?? [];
  const {nodes} = executor.graph;
  const nodeOf = (option: 'inputs' | 'outputs') => (key: string) => {
    const name = (signature?.[option]?.[key]?.name ?? key).replace(/:.*$/, '');
    if (!nodes[name]) throw new Error(`${option}: the graph has no node ${JSON.stringify(key)}`);
    return name;
  };
  const ends = outputs.map(nodeOf('outputs'));
  const fed = inputs.map(nodeOf('inputs'));
  const starts = new Set(fed);
  const run = needed(nodes, ends, starts);
  const paths = new GradientPaths(nodes, ends, starts);
  const {weightMap} = executor;
  const isRun = new Set(run);
  const constants = Object.values(nodes).filter(
    node => isRun.has(node) && weightMap[node.name]?.[0]?.dtype === 'float32' && paths.has(node.name),
  );
  const shapeOf = ({name}: GraphNode) => weightMap[name]![0]!.shape;
  const weights = constants.filter(node => isWeight(node, shapeOf(node), paths)).map(({name}) => name);
  const cuts = () => cutsOf(nodes, paths, weights, ends, starts);
  const [waiting] = asynchronous(run, starts);
  if (waiting) {
    const options = inOptions(cuts());
    throw new Error(
      `${waiting.name} is ${waiting.op}, which tfjs runs with executeAsync only, and a gradient cannot wait for it. ` +
        `Name outputs that come before it, or inputs behind it${options && `: ${options}`}`,
    );
  }
  const names = pathsOf(constants.map(({name}) => name));
  const isKernel = new Set(weights);
  const candidates = constants.map((node, i) => ({
    name: names[i]!,
    shape: shapeOf(node),
    node,
    isWeight: isKernel.has(node.name),
    obstacles: paths.obstacles(node.name),
  }));
  return {
    candidates,
    outputs,
    fed,
    cuts,
    blockedOf(some) {
      const found = new Map<string, Omit<Blocked, 'before'> & {weights: string[]; nodes: string[]}>();
      for (const {name, node, obstacles} of some) {
        for (const [at, {node: op, why}] of obstacles) {
          const entry = found.get(at) ?? {node: at, op: op.op, why, weights: [], nodes: []};
          entry.weights.push(name);
          entry.nodes.push(node.name);
          found.set(at, entry);
        }
      }
      return Array.from(found.values(), ({nodes: names, ...entry}) => ({
        ...entry,
        before: lastOpen(paths, names, ends, {at: new Set([entry.node])}),
      }));
    },
  };
}

/**
 * The constants that become variables.
 *
 * @throws Error when there are none, when a pattern matches nothing, or a weight that it names cannot be trained
 */
export function choose(
  {candidates, blockedOf, cuts}: Survey,
  {targets, include}: TrainableGraphModelOptions,
): readonly Candidate[] {
  const weights = candidates.filter(({isWeight}) => isWeight);
  const named = new Set([
    ...(targets === undefined ? [] : matching('targets', targets, weights)),
    ...(include === undefined ? [] : matching('include', include, candidates)),
  ]);
  const help = () => {
    const options = inOptions(cuts());
    return options && `. What comes before can be trained with ${options}`;
  };
  const stuck = blockedOf([...named]);
  if (stuck.length > 0)
    throw new Error(`no gradient comes to every weight that was named: ${inWords(stuck)}${help()}`);
  const free = weights.filter(({obstacles}) => obstacles.size === 0);
  const chosen = targets === undefined ? [...new Set([...free, ...named])] : [...named];
  if (chosen.length > 0) {
    if (targets === undefined) tellOfRest(weights, free, blockedOf, help);
    return chosen;
  }
  if (weights.length === 0)
    throw new Error('nothing in this graph can be trained: no float32 weights lead to the outputs');
  throw new Error(`nothing in this graph can be trained: ${inWords(blockedOf(weights))}${help()}`);
}

/** Where an op keeps back more than half of the numbers, training would go on with next to nothing: so it is said. */
function tellOfRest(
  weights: readonly Candidate[],
  free: readonly Candidate[],
  blockedOf: Survey['blockedOf'],
  help: () => string,
): void {
  const numbers = (some: readonly Candidate[]) =>
    some.reduce((sum, {shape}) => sum + util.sizeFromShape([...shape]), 0);
  if (2 * numbers(free) >= numbers(weights)) return;
  console.warn(
    `tfjs-lora: ${numbers(free)} of the ${numbers(weights)} numbers of this graph can be trained: ` +
      `${inWords(blockedOf(weights))}${help()}`,
  );
}

/** What a pattern means, by path or by the name of the node. Of a list, every name must match something. */
function matching(option: string, pattern: Pattern, among: readonly Candidate[]): Candidate[] {
  const patterns = Array.isArray(pattern) ? (pattern as readonly string[]) : [pattern];
  if (patterns.length === 0) {
    throw new Error(`${option}: an empty list names no weight; leave it out, or name some`);
  }
  return patterns.flatMap(each => {
    const matches = matcher(each);
    const found = among.filter(
      ({name, shape, node}) => matches({name, shape}) || matches({name: node.name, shape}),
    );
    if (found.length > 0) return found;
    const seen = among.map(({name, shape}) => `${name} [${shape}]`).join(', ') || 'none';
    throw new Error(`${option}: ${describePattern(each)} matches no weight. The weights seen: ${seen}`);
  });
}

/** The reasons, each with the first nodes and the first weights. */
function inWords(blocked: readonly Blocked[]): string {
  const reasons = [...new Set(blocked.map(({why}) => why))].map(why => {
    const those = blocked.filter(each => each.why === why);
    const weights = [...new Set(those.flatMap(each => each.weights))];
    const nodes = those.map(({node}) => node);
    return `${why} (node ${first(nodes, 1)}), which is on the way to ${first(weights, 2)}`;
  });
  return first(reasons, 3, '; ');
}

/** The first of a list and how many more. */
function first(names: readonly string[], count: number, between = ', '): string {
  const more = names.length - count;
  return names.slice(0, count).join(between) + (more > 0 ? ` and ${more} more` : '');
}

/**
 * Node names without what the converter and TensorFlow wrap around them: `StatefulPartitionedCall/model/dense/MatMul/
 * ReadVariableOp` is `model/dense/MatMul`. Where that leaves two alike, both keep all of their names.
 */
function pathsOf(names: readonly string[]): string[] {
  const short = names.map(name =>
    name
      .replace(/^(Stateful)?PartitionedCall(_\d+)?\//, '')
      .replace(/\/(ReadVariableOp|Read|read|resource)(_\d+)?(\/ReadVariableOp(_\d+)?|\/resource)?$/, ''),
  );
  const counts = new Map<string, number>();
  for (const name of short) counts.set(name, (counts.get(name) ?? 0) + 1);
  return short.map((name, i) => (counts.get(name)! > 1 || name === '' ? names[i]! : name));
}

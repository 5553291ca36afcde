import {
  asynchronous,
  canFeed,
  type GradientPaths,
  isAsynchronous,
  needed,
  obstacle,
  reach,
} from './gradient-path.js';
import type {GraphNode} from './graph-model.js';

type Nodes = Readonly<Record<string, GraphNode>>;

/** What `outputs` and `inputs` could name so that a part of a graph can be trained. */
export interface Cuts {
  readonly outputs: readonly string[];
  readonly inputs: readonly string[];
}

/** Ops that give whole numbers: a place to end a loss at lies before them. */
const WHOLE: ReadonlySet<string> = new Set(['ArgMax', 'ArgMin', 'FloorDiv', 'FloorMod']);

/**
 * The nodes that a gradient can start from and come to weights by every way that there is: what stands before the first
 * op without a gradient.
 *
 * @param at Only nodes before these ops; default: before all that stand in the way, and outputs themselves.
 * @param late Nodes that cannot be run for other reasons.
 */
export function lastOpen(
  paths: GradientPaths,
  weights: readonly string[],
  outputs: readonly string[],
  {at, late}: {at?: ReadonlySet<string>; late?: ReadonlySet<string>} = {},
): string[] {
  const ends = (node: GraphNode, param: string) =>
    isAsynchronous(node) || late?.has(node.name) || WHOLE.has(node.op) || obstacle(node, param) !== null;
  const closed = new Set<string>();
  const found: {from: string; node: string}[] = [];
  const open = reach(weights, from =>
    paths.usersOf(from).flatMap(({node, param}) => {
      if (!ends(node, param)) return [node.name];
      closed.add(node.name);
      found.push({from, node: node.name});
      return [];
    }),
  );
  const behind = reach([...closed], from => paths.usersOf(from).map(({node}) => node.name));
  const isOpen = (name: string) => open.has(name) && !behind.has(name) && !weights.includes(name);
  const before = found.filter(({node}) => !at || at.has(node)).map(({from}) => from);
  return [...new Set([...(at ? [] : outputs), ...before])].filter(isOpen);
}

/**
 * Where to cut a graph so that what lies between can be trained: before the ops without a gradient, and behind those that
 * run asynchronously. As few outputs as come to all the weights.
 *
 * @param fed The nodes it is fed at already.
 */
export function cutsOf(
  nodes: Nodes,
  paths: GradientPaths,
  weights: readonly string[],
  outputs: readonly string[],
  fed: ReadonlySet<string>,
): Cuts {
  const late = waitingFor(nodes, weights, fed);
  const last = fewest(paths, weights, lastOpen(paths, weights, outputs, {late}), outputs);
  const inputs = new Set<string>();
  reach(last, name => {
    const node = nodes[name]!;
    if (fed.has(name) || node.op === 'Const') return [];
    const before = inputsOf(node);
    const waiting = asynchronous(before, fed);
    if (waiting.length === 0) return before.map(each => each.name);
    // Fed where the loop ends, if tfjs lets us, or else at what uses it.
    for (const each of waiting) inputs.add(canFeed(each) ? each.name : name);
    if (inputs.has(name)) return [];
    return before.flatMap(each => (waiting.includes(each) ? [] : each.name));
  });
  return {outputs: last, inputs: [...inputs]};
}

const inputsOf = (node: GraphNode) => node.inputs.filter(input => !!input) as GraphNode[];

/**
 * The nodes that run only after something asynchronous that depends on weights, or that they were told to wait for: feeding
 * the graph elsewhere does not spare it.
 */
function waitingFor(nodes: Nodes, weights: readonly string[], fed: ReadonlySet<string>): Set<string> {
  const users = new Map<string, string[]>();
  for (const node of Object.values(nodes)) {
    if (node.op === 'Const') continue;
    for (const {name} of inputsOf(node)) users.set(name, [...(users.get(name) ?? []), node.name]);
  }
  const next = (name: string) => users.get(name) ?? [];
  const waits = (node: GraphNode) =>
    orderedAfter(node).some(({name}) => asynchronous(needed(nodes, [name], fed), fed).length > 0);
  const first = [...reach(weights, next)].filter(name => isAsynchronous(nodes[name]!) || waits(nodes[name]!));
  return reach(first, next);
}

/** The inputs of a node that are no parameters of it: control inputs. */
function orderedAfter(node: GraphNode): GraphNode[] {
  const ends = Object.values(node.inputParams).map(({inputIndexStart: start, inputIndexEnd: end}) =>
    start === undefined ? 0 : start < 0 || end === 0 ? Infinity : (end ?? start + 1),
  );
  return inputsOf(node).slice(Math.max(0, ...ends));
}

/** Of places to end at, those that come to all the weights together: outputs first, then what is nearest to the input. */
function fewest(
  paths: GradientPaths,
  weights: readonly string[],
  places: readonly string[],
  outputs: readonly string[],
): string[] {
  const comesTo = new Map<string, string[]>(places.map(place => [place, []]));
  for (const weight of weights) {
    for (const name of reach([weight], from => paths.usersOf(from).map(({node}) => node.name))) {
      comesTo.get(name)?.push(weight);
    }
  }
  const behind = (place: string) => reach([place], from => paths.usersOf(from).map(({node}) => node.name));
  const order = new Map(
    places.map(place => [place, outputs.includes(place) ? Infinity : behind(place).size]),
  );
  const covered = new Set<string>();
  return [...places]
    .sort((a, b) => order.get(b)! - order.get(a)! || 0)
    .filter(place => {
      const news = comesTo.get(place)!.filter(weight => !covered.has(weight));
      for (const weight of news) covered.add(weight);
      return news.length > 0;
    });
}

/** Cuts as the options that they are; empty where there are none. */
export function inOptions({outputs, inputs}: Cuts): string {
  if (outputs.length === 0) return '';
  const list = (names: readonly string[]) => `[${names.map(name => `'${name}'`).join(', ')}]`;
  const also = inputs.length > 0 ? `, inputs: ${list(inputs)}` : '';
  return `{outputs: ${list(outputs)}${also}}`;
}

import {getGradient} from '@tensorflow/tfjs-core';
import type {GraphNode} from './graph-model.js';

type Nodes = Readonly<Record<string, GraphNode>>;

/** An op that stands between weights and the outputs, and why no gradient passes. */
export interface Blocked {
  /** The node in the graph. */
  readonly node: string;
  readonly op: string;
  readonly why: string;
  /** The paths of the weights that have no gradient because of it. */
  readonly weights: readonly string[];
  /** The nodes before it that gradients can start from: what `outputs` can name instead. Empty where there is none. */
  readonly before: readonly string[];
}

/** What the converter runs for an op, where that is not the kernel of the same name. */
const KERNELS: Readonly<Record<string, readonly string[]>> = {
  AddV2: ['Add'],
  BiasAdd: ['Add'],
  Mul: ['Multiply'],
  Div: ['RealDiv'],
  FloorMod: ['Mod'],
  DivNoNan: ['RealDiv', 'Equal', 'Select'],
  MatMul: ['BatchMatMul'],
  BatchMatMulV2: ['BatchMatMul'],
  _FusedMatMul: ['BatchMatMul', 'Add'],
  _FusedConv2D: ['Conv2D', 'Add'],
  FusedDepthwiseConv2dNative: ['DepthwiseConv2dNative', 'Add'],
  DepthwiseConv2d: ['DepthwiseConv2dNative'],
  Conv1D: ['Conv2D', 'Reshape'],
  Conv2dTranspose: ['Conv2DBackpropInput'],
  FusedBatchNormV2: ['FusedBatchNorm'],
  FusedBatchNormV3: ['FusedBatchNorm'],
  EuclideanNorm: ['Square', 'Sum', 'Sqrt'],
  Gather: ['GatherV2'],
  ConcatV2: ['Concat'],
  ReverseV2: ['Reverse'],
  Split: ['SplitV'],
  Pad: ['PadV2'],
  Squeeze: ['Reshape'],
  BroadcastTo: ['Tile'],
  SelectV2: ['Select'],
  EnsureShape: [],
  IdentityN: [],
  Snapshot: [],
  StopGradient: [],
  FakeQuantWithMinMaxVars: [],
  PlaceholderWithDefault: [],
  Print: [],
};

/** Kernels of the activations that tfjs runs as ops of their own while it records. */
const ACTIVATIONS: Readonly<Record<string, readonly string[]>> = {
  linear: [],
  relu: ['Relu'],
  relu6: ['Relu6'],
  elu: ['Elu'],
  prelu: ['Prelu'],
  leakyrelu: ['LeakyRelu'],
  sigmoid: ['Sigmoid'],
};

/** Ops whose value does not come from what their input holds. */
const FRESH: ReadonlySet<string> = new Set(['Shape', 'ShapeN', 'Size', 'Rank', 'NoOp']);
/** What the converter runs asynchronously. */
const ASYNC: ReadonlySet<string> = new Set(['control', 'dynamic', 'hash_table']);
/** What it takes for asynchronous even where the value is given; lists of tensors are not among them. */
const NEVER_FED =
  /^(Switch|Merge|Enter|Exit|NextIteration|(Stateless)?(If|While)|NonMaxSuppressionV[235]|Where|HashTable(V2)?|LookupTable.*)$/;
const DILATED: ReadonlySet<string> = new Set([
  'Conv1D',
  'Conv2D',
  '_FusedConv2D',
  'Conv3D',
  'DepthwiseConv2d',
  'DepthwiseConv2dNative',
  'FusedDepthwiseConv2dNative',
]);

/** An input of a node that comes as a tensor, not as numbers that are read on the host. */
export interface Link {
  readonly param: string;
  readonly from: GraphNode;
}

/** The inputs of a node that a gradient can go back to. */
export function linksOf(node: GraphNode): Link[] {
  if (FRESH.has(node.op)) return [];
  return Object.entries(node.inputParams).flatMap(
    ([param, {type, inputIndexStart: start, inputIndexEnd: end}]) => {
      if (start === undefined || !type.startsWith('tensor')) return [];
      const one = start < 0 ? start + node.inputs.length : start;
      const froms =
        type === 'tensor'
          ? [node.inputs[one]]
          : node.inputs.slice(start, end === 0 ? undefined : (end ?? start + 1));
      return froms.flatMap(from => (from ? [{param, from}] : []));
    },
  );
}

/** The activation of a fused op. */
const activationOf = (node: GraphNode) =>
  (node.attrParams['fusedOps']?.value as readonly string[] | undefined)?.[1] ?? 'linear';

/** Into how many parts a node takes its input, as far as that is in the graph. */
function partsOf({op, attrParams}: GraphNode): number | undefined {
  const [key] = op === 'Unpack' ? ['num'] : op === 'Split' ? ['numOrSizeSplits'] : [];
  return key === undefined ? undefined : (attrParams[key]?.value as number | undefined);
}

/** Why no gradient goes from a node's output to one of its inputs; null where it does. */
export function obstacle(node: GraphNode, param: string): string | null {
  const {op, category} = node;
  if (category === 'custom') return null;
  let kernels = KERNELS[op] ?? [op];
  if (op.includes('Fused') && node.inputParams['args']) {
    const activation = activationOf(node);
    const more = ACTIVATIONS[activation];
    if (!more) return `tfjs has no gradient for the fused activation '${activation}'`;
    kernels = [...kernels, ...more];
    if (String(node.attrParams['dataFormat']?.value).toUpperCase() === 'NCHW') {
      return 'tfjs has no gradient for a fused convolution in NCHW';
    }
  }
  if (partsOf(node) === 1) return `tfjs's gradient of ${op} fails where it gives one part`;
  const missing = kernels.find(kernel => !getGradient(kernel));
  if (missing) return `tfjs has no gradient for ${missing === op ? op : `${missing}, which ${op} runs`}`;
  const dilations = node.attrParams['dilations']?.value ?? node.attrParams['dilation']?.value;
  const isDilated = DILATED.has(op) && [dilations ?? 1].flat().some(step => Number(step) > 1);
  // The filter's own gradient is captured without tfjs's.
  return isDilated && (param === 'x' || param === 'input')
    ? 'tfjs has no gradient for the input of a convolution with dilation'
    : null;
}

/** The nodes that are run or fed for some outputs, given the nodes that are fed. */
export function needed(nodes: Nodes, outputs: readonly string[], fed: ReadonlySet<string>): GraphNode[] {
  const before = (name: string) =>
    fed.has(name) || nodes[name]!.op === 'Const' ? [] : nodes[name]!.inputs.flatMap(node => node?.name ?? []);
  return [...reach(outputs, before)].map(name => nodes[name]!);
}

/** Whether the converter runs an op asynchronously. */
export const isAsynchronous = ({category}: GraphNode): boolean => !!category && ASYNC.has(category);

/** Whether a graph can be fed at a node. */
export const canFeed = (node: GraphNode): boolean => !isAsynchronous(node) || !NEVER_FED.test(node.op);

/** The ops that would have to run asynchronously. */
export const asynchronous = (nodes: readonly GraphNode[], fed: ReadonlySet<string>): GraphNode[] =>
  nodes.filter(node => (fed.has(node.name) ? !canFeed(node) : isAsynchronous(node)));

/** What lies between the constants of a graph and its outputs. */
export class GradientPaths {
  /** The nodes whose value the outputs depend on, with where it goes. */
  private readonly users = new Map<string, {node: GraphNode; param: string}[]>();

  constructor(nodes: Nodes, outputs: readonly string[], fed: ReadonlySet<string>) {
    const links = (name: string) => (fed.has(name) ? [] : linksOf(nodes[name]!));
    for (const name of reach(outputs, from => links(from).map(link => link.from.name))) {
      if (!this.users.has(name)) this.users.set(name, []);
      for (const {param, from} of links(name)) {
        const users = this.users.get(from.name) ?? [];
        users.push({node: nodes[name]!, param});
        this.users.set(from.name, users);
      }
    }
  }

  /** Whether the outputs depend on the values of a node. */
  has(name: string): boolean {
    return this.users.has(name);
  }

  usersOf(name: string): readonly {readonly node: GraphNode; readonly param: string}[] {
    return this.users.get(name) ?? [];
  }

  /** The ops that a gradient cannot pass on its way from the outputs to a node, by the node's name. */
  obstacles(name: string): Map<string, {node: GraphNode; why: string}> {
    const found = new Map<string, {node: GraphNode; why: string}>();
    reach([name], from =>
      this.usersOf(from).map(({node, param}) => {
        const why = obstacle(node, param);
        if (why) found.set(node.name, {node, why});
        return node.name;
      }),
    );
    return found;
  }
}

/** All names that can be reached, the first ones included. */
export function reach(from: readonly string[], next: (name: string) => readonly string[]): Set<string> {
  const seen = new Set(from);
  for (const name of seen) for (const other of next(name)) seen.add(other);
  return seen;
}

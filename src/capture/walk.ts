import type {Tensor} from '@tensorflow/tfjs-core';
import type {TapeNode} from './engine.js';

/**
 * tfjs walks the tape from its end and holds every delta until the walk is over. With this each goes as soon as the
 * next node has its turn: by then all that its own node makes of it is made.
 *
 * @param born Ids above this are of tensors made during the walk; others are not the walk's to dispose.
 */
export function releaseDeltas(tape: readonly TapeNode[], born: number): void {
  const seen = new Set<number>();
  const shared = new Set<number>();
  let done: readonly (Tensor | null)[] = [];
  for (const node of tape) {
    const {gradient} = node;
    if (!gradient) continue;
    node.gradient = deltas => {
      for (const delta of done) {
        if (delta && delta.id > born && !shared.has(delta.id) && !delta.kept) delta.dispose();
      }
      done = deltas;
      for (const delta of done) if (delta) seen.add(delta.id);
      const own = gradient(deltas);
      return Object.fromEntries(
        Object.entries(own).map(([key, of]) => [
          key,
          () => {
            const dx = of();
            // A gradient function may hand on the delta it was given, or one tensor for two inputs.
            if (seen.has(dx.id)) shared.add(dx.id);
            seen.add(dx.id);
            return dx;
          },
        ]),
      );
    };
  }
}

/**
 * The nodes in another order, in which all gradients of a weight come in one go: what is made of a weight alone (a
 * penalty) is recorded right before the first op that uses it with something else. At the end of the tape, where
 * penalties are recorded, it would be walked first, and its gradient wait.
 */
export function gathered(tape: readonly TapeNode[], weights: readonly Tensor[]): TapeNode[] {
  const owners = new Map<number, number>(weights.map(({id}) => [id, id]));
  const made = new Set<number>();
  const owned = new Map<number, TapeNode[]>(weights.map(({id}) => [id, []]));
  const rest: {node: TapeNode; uses: number[]}[] = [];
  for (const node of tape) {
    const inputs = Object.values(node.inputs).filter(input => input);
    const of = new Set(inputs.flatMap(({id}) => owners.get(id) ?? []));
    const [owner] = of;
    const isOwned =
      owner !== undefined &&
      of.size === 1 &&
      inputs.every(({id, size}) => owners.has(id) || (size === 1 && !made.has(id)));
    if (isOwned) {
      owned.get(owner)!.push(node);
      for (const {id} of node.outputs) owners.set(id, owner);
    } else {
      rest.push({node, uses: [...of]});
    }
    for (const {id} of node.outputs) made.add(id);
  }
  const inOrder = rest.flatMap(({node, uses}) => {
    const before = uses.flatMap(use => owned.get(use) ?? []);
    for (const use of uses) owned.delete(use);
    return [...before, node];
  });
  return [...inOrder, ...[...owned.values()].flat()];
}

/** The nodes that lead to a tensor. */
export function leadingTo(tape: readonly TapeNode[], y: Tensor): Set<TapeNode> {
  const wanted = new Set([y.id]);
  const nodes = new Set<TapeNode>();
  for (const node of tape.toReversed()) {
    if (!node.outputs.some(({id}) => wanted.has(id))) continue;
    nodes.add(node);
    for (const input of Object.values(node.inputs)) if (input) wanted.add(input.id);
  }
  return nodes;
}

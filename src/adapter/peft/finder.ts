import {read} from '../../linalg/read.js';
import {kindOf, type LayerKind} from '../layers.js';
import {namedWeights, type WeightsOf} from '../paths.js';
import {visible} from '../untrusted.js';
import {moduleOf, type ModuleNames, type Part, partOf, refuse} from './mapping.js';

/** A weight of the reader's, by path, and by shape where a model says so. */
export interface Found {
  readonly path: string;
  readonly shape: readonly number[] | null;
  readonly kind: LayerKind | null;
  /** The numbers of the model's weight. */
  readonly values: (() => ArrayLike<number>) | null;
}

/** Where the part of a module is here; null to leave it out. `otherwise` is what it is called where nobody says. */
export type Finder = (module: string, part: Part, otherwise: string | null) => Found | null;

export interface FinderOptions {
  readonly model?: WeightsOf;
  readonly names?: ModuleNames;
  readonly paths?: (module: string, part: Part) => string | null;
}

/** By `paths`, or by the model, or by what the file notes. */
export function finder(
  {model, names = moduleOf, paths}: FinderOptions,
  noted: ReadonlyMap<string, string>,
): Finder {
  const variables = model && namedWeights(model);
  const known = new Set(variables?.keys());
  const byParameter = new Map<string, string[]>();
  for (const path of known) {
    const module = names(path);
    if (module === null) continue;
    const parameter = `${module}.${partOf(path)}`;
    byParameter.set(parameter, [...(byParameter.get(parameter) ?? []), path]);
  }
  const pathOf = (module: string, part: Part, otherwise: string | null): string | null => {
    const parameter = `${module}.${part}`;
    if (paths) return paths(module, part);
    if (!variables) {
      return (
        noted.get(parameter) ??
        otherwise ??
        refuse(
          module,
          `has a whole ${part}, and what that is called here cannot be known; give \`model\` or \`paths\``,
        )
      );
    }
    const candidates = byParameter.get(parameter) ?? [];
    if (candidates.length === 1) return candidates[0]!;
    if (candidates.length === 0) {
      const some = [...new Set([...byParameter.keys()].map(key => key.slice(0, key.lastIndexOf('.'))))];
      return refuse(
        module,
        `has a ${part} that this model does not have; its modules are ${some.slice(0, 12).join(', ')}` +
          `${some.length > 12 ? ', …' : ''}. Give \`names\` or \`paths\` that say which is which`,
      );
    }
    return refuse(module, `could be ${candidates.join(' or ')}; tell them apart by \`names\` or \`paths\``);
  };
  return (module, part, otherwise) => {
    const path = pathOf(module, part, otherwise);
    if (path === null) return null;
    const variable = variables?.get(path);
    if (variables && !variable) refuse(module, `is ${path} by \`paths\`, which this model does not have`);
    const kind = variable ? kindOf(path, variable.shape, known) : null;
    if (kind === 'recurrent')
      refuse(module, `is ${path}, of a recurrent layer, and PEFT adapts none of these`);
    return {
      path,
      shape: variable?.shape ?? null,
      kind,
      values: variable ? () => read(variable, visible(`fromPeft: ${path}`)) : null,
    };
  };
}

/**
 * A value that remembers the call that made it, so that it can be written to a file and made again.
 *
 * Parametrizations, initialisers and schedules are functions or objects full of functions. A model file holds only
 * JSON. `recipe(name, make)` gives the factory a name; what it makes is written as `{recipe, options}` and read by
 * calling the factory again. Nothing is imported for it: only factories a program contains can be read back.
 */
export function recipe<A extends unknown[], T extends object>(
  name: string,
  make: (...args: A) => T,
): (...args: A) => T {
  const factory = (...args: A): T => {
    const made = make(...args);
    calls.set(made, {name, args});
    return made;
  };
  factories.set(name, factory as unknown as (...args: never[]) => object);
  return factory;
}

const factories = new Map<string, (...args: never[]) => object>();
const calls = new WeakMap<object, {name: string; args: unknown[]}>();

/** The call that made a value, or undefined when it was not made by a recipe. */
export function recipeOf(value: object): {name: string; args: readonly unknown[]} | undefined {
  return calls.get(value);
}

/** JSON for a value that may hold recipes, regular expressions and functions, at any depth. */
export function toJson(value: unknown): unknown {
  if (value === undefined) return undefined;
  if (value instanceof RegExp) return {$regexp: value.source, flags: value.flags};
  if (typeof value === 'number' && !Number.isFinite(value)) return {$number: String(value)};
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return value;
  const call = recipeOf(value);
  if (call) return {$recipe: call.name, args: call.args.map(arg => toJson(arg) ?? null)};
  if (typeof value === 'function') return {$yours: 'a function'};
  if (Array.isArray(value)) return value.map(item => toJson(item) ?? null);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return {$yours: 'an object'};
  return Object.fromEntries(
    Object.entries(value)
      // What is only told things (onEnergy) is not needed to go on.
      .filter(([key, member]) => !(typeof member === 'function' && /^on[A-Z]/.test(key)))
      .map(([key, member]) => [key, toJson(member)])
      .filter(([, member]) => member !== undefined),
  );
}

/**
 * The value that `toJson` wrote. What was the user's own (a function without a recipe) comes back as a stand-in
 * that throws when it is used, naming itself by `where`.
 */
export function fromJson(json: unknown, where: string): unknown {
  if (json === null || typeof json !== 'object') return json;
  if (Array.isArray(json)) return json.map((item, i) => fromJson(item, `${where}[${i}]`));
  const record = json as Record<string, unknown>;
  if (typeof record['$regexp'] === 'string')
    return new RegExp(record['$regexp'], String(record['flags'] ?? ''));
  if (typeof record['$number'] === 'string') return Number(record['$number']);
  if (typeof record['$yours'] === 'string') {
    return standIn(
      where,
      `\`${where}\` was ${record['$yours']} of yours when this was saved, and a file cannot hold it`,
    );
  }
  if (typeof record['$recipe'] === 'string') {
    const name = record['$recipe'];
    const factory = factories.get(name);
    if (!factory) {
      return standIn(
        where,
        `\`${where}\` was made by \`${name}\`, which this program does not contain: import it, or wrap your own ` +
          `factory in recipe('${name}', …)`,
      );
    }
    const args = (record['args'] as unknown[]).map((arg, i) =>
      arg === null ? undefined : fromJson(arg, `${where}.${name}(${i})`),
    );
    return factory(...(args as never[]));
  }
  return Object.fromEntries(
    Object.entries(record).map(([key, member]) => [key, fromJson(member, where ? `${where}.${key}` : key)]),
  );
}

/** A function that is also a parametrization in shape; any use of it explains what is missing. */
function standIn(where: string, reason: string): object {
  const fail = (): never => {
    throw new Error(
      `${reason}. Build the optimizer with \`${where}\` given again and pass it the saved weights.`,
    );
  };
  return Object.assign(fail, {init: fail, delta: fail, pullback: fail, lift: fail, refresh: fail});
}

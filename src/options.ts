/** Throws when `options` is not a plain object or has a key that is not in `known`, naming the near miss. */
export function expectOptions(where: string, options: object, known: readonly string[]): void {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TypeError(`${where}: options must be an object, not ${describe(options)}`);
  }
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    throw new TypeError(
      `${where}: unknown option '${key}'; it takes ${known.map(k => `'${k}'`).join(', ') || 'none'}`,
    );
  }
}

/** Throws unless `value` is a finite number that `accepts` takes; `what` says which numbers do. */
export function expectNumber(
  where: string,
  value: unknown,
  what: string,
  accepts: (value: number) => boolean,
): asserts value is number {
  if (typeof value !== 'number' || !Number.isFinite(value) || !accepts(value)) {
    throw new RangeError(`${where} must be ${what}, not ${describe(value)}`);
  }
}

/** Throws unless `value` is one of `choices`. */
export function expectOneOf(where: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  throw new TypeError(`${where} must be ${choices.map(c => `'${c}'`).join(' or ')}, not ${describe(value)}`);
}

/** Throws unless `value` is true or false. */
export function expectBoolean(where: string, value: unknown): asserts value is boolean {
  if (typeof value !== 'boolean')
    throw new TypeError(`${where} must be true or false, not ${describe(value)}`);
}

function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}

import {expectSameInner, type InnersConfig} from '../inners.js';
import {DEFAULTS} from '../settings.js';
import {errorOf} from '../adapter/untrusted.js';

interface Written {
  readonly inner: InnersConfig;
  readonly parametrization: unknown;
  readonly options: Readonly<Record<string, unknown>>;
}

/** A learning rate is part of the state, and what is only measured changes no number. */
const FREE = ['telemetry'];

/**
 * Throws, and names the first difference, when two optimizers were not built with the same options. Functions that a
 * file cannot hold count as the same.
 *
 * @param then What `getConfig().name` was when the checkpoint was made.
 * @param now What it is.
 */
export function expectSameOptions(then: string, now: string): void {
  const [was, is] = [then, now].map(text => JSON.parse(text) as Written) as [Written, Written];
  if ('shared' in was.inner !== 'shared' in is.inner) {
    const name = ({inner}: Written) =>
      'shared' in inner ? `one ${inner.shared.className}` : 'a function that makes one for each factor';
    throw errorOf(
      `the inner optimizer was ${name(was)} when this checkpoint was made, and is ${name(is)} now`,
    );
  }
  if ('shared' in was.inner && 'shared' in is.inner) {
    expectSameInner('the inner optimizer', was.inner.shared, is.inner.shared);
  }
  expectSame('parametrization', was.parametrization, is.parametrization);
  const options = [was, is].map(written => ({...DEFAULTS, ...written.options}) as Record<string, unknown>);
  for (const key of new Set(options.flatMap(all => Object.keys(all)))) {
    if (!FREE.includes(key)) expectSame(key, options[0]![key], options[1]![key]);
  }
}

function expectSame(path: string, was: unknown, is: unknown): void {
  if (JSON.stringify(was) === JSON.stringify(is)) return;
  if (
    isRecord(was) &&
    isRecord(is) &&
    was['$recipe'] === is['$recipe'] &&
    Array.isArray(was) === Array.isArray(is)
  ) {
    const inside = '$recipe' in was ? [was['args'], is['args']] : [was, is];
    const [a, b] = inside.map(value => (isOptions(value) ? value[0] : value) ?? {}) as Record<
      string,
      unknown
    >[];
    const name = '$recipe' in was ? `${path}: ${String(was['$recipe'])}` : path;
    for (const key of new Set([...Object.keys(a!), ...Object.keys(b!)])) {
      expectSame(`${name}.${key}`, a![key], b![key]);
    }
    return;
  }
  throw errorOf(
    `the option ${path} was ${show(was)} when this checkpoint was made, and is ${show(is)} now: build the optimizer ` +
      'with the options it was saved with',
  );
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

/** The one argument that most recipes take. */
const isOptions = (args: unknown): args is [unknown] =>
  Array.isArray(args) &&
  args.length < 2 &&
  (args.length === 0 || (isRecord(args[0]) && !('$recipe' in args[0])));

function show(value: unknown): string {
  if (value === undefined) return 'not given';
  if (isRecord(value) && '$yours' in value) return `${String(value['$yours'])} of yours`;
  if (!isRecord(value) || !('$recipe' in value)) return JSON.stringify(value);
  return `${String(value['$recipe'])}(${(value['args'] as unknown[]).map(show).join(', ')})`;
}

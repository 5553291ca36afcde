/** JSON as it is read from a file nobody vouches for: objects are maps, so that no name means anything to JavaScript. */
export type Json = string | number | boolean | null | readonly Json[] | ReadonlyMap<string, Json>;

export interface JsonLimits {
  /** Numbers are only digits: no sign, no fraction, no exponent. Default false. */
  readonly counts?: boolean;
  /** The most members of one object. Default: as many as there are. */
  readonly members?: number;
}

/**
 * Reads JSON more strictly than `JSON.parse`: a key may stand only once in its object, strings must be well-formed
 * Unicode, and nesting ends at `depth`. Nothing in the text is evaluated or becomes a property.
 *
 * @throws SyntaxError that says where.
 */
export function parseStrictJson(
  text: string,
  depth = 8,
  {counts = false, members: most = Infinity}: JsonLimits = {},
): Json {
  let at = 0;
  const fail = (what: string): never => {
    throw new SyntaxError(`${what} at character ${at}`);
  };
  const space = () => {
    for (; ; at++) {
      const code = text.charCodeAt(at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  };
  const expect = (mark: string) => {
    space();
    if (text[at] !== mark) fail(`'${mark}' is missing`);
    at++;
  };
  /** Takes the mark if it is next. */
  const take = (mark: string): boolean => {
    space();
    if (text[at] !== mark) return false;
    at++;
    return true;
  };
  const string = (): string => {
    expect('"');
    PLAIN.lastIndex = at;
    const [plain] = PLAIN.exec(text)!;
    if (text[at + plain.length] === '"') {
      at += plain.length + 1;
      return plain;
    }
    const start = at - 1;
    while (text[at] !== '"') {
      if (at >= text.length) fail('a string does not end');
      at += text[at] === '\\' ? 2 : 1;
    }
    at++;
    const read = JSON.parse(text.slice(start, at)) as string;
    return isWellFormed(read) ? read : fail('half a surrogate pair');
  };
  const object = (left: number): Json => {
    const members = new Map<string, Json>();
    at++;
    if (take('}')) return members;
    do {
      const key = string();
      if (members.has(key)) fail(`'${key}' stands twice`);
      if (members.size >= most) fail(`more than ${most} members`);
      expect(':');
      members.set(key, value(left));
    } while (take(','));
    expect('}');
    return members;
  };
  const list = (left: number): Json => {
    const items: Json[] = [];
    at++;
    if (take(']')) return items;
    do items.push(value(left));
    while (take(','));
    expect(']');
    return items;
  };
  const value = (left: number): Json => {
    space();
    const mark = text[at];
    if (mark === '"') return string();
    if (mark === '{' || mark === '[') {
      if (left === 0) fail(`more than ${depth} levels`);
      return mark === '{' ? object(left - 1) : list(left - 1);
    }
    WORD.lastIndex = at;
    const [word] = WORD.exec(text) ?? fail('no value');
    const isNumber = word.charCodeAt(0) < 0x61;
    if (counts && isNumber && !COUNT.test(word)) fail(`${word} is no whole number as it should stand there`);
    at += word.length;
    return isNumber ? Number(word) : word === 'null' ? null : word === 'true';
  };
  const read = value(depth);
  space();
  return at === text.length ? read : fail('something is left');
}

/** What stands in a string for itself and is well-formed whatever comes next. */
const PLAIN = /[ !#-[\]-\ud7ff]*/y;
const COUNT = /^\d+$/;
const WORD = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/** Whether a string has no half of a surrogate pair, so that UTF-8 can hold it. */
export const isWellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text);

/** JSON as it is read from a file nobody vouches for: objects are maps, so that no name means anything to JavaScript. */
export type Json = string | number | boolean | null | readonly Json[] | ReadonlyMap<string, Json>;

/**
 * Reads JSON more strictly than `JSON.parse`: a key may stand only once in its object, strings must be well-formed
 * Unicode, and nesting ends at `depth`. Nothing in the text is evaluated or becomes a property.
 *
 * @throws SyntaxError that says where.
 */
export function parseStrictJson(text: string, depth = 8): Json {
  let at = 0;
  const fail = (what: string): never => {
    throw new SyntaxError(`${what} at character ${at}`);
  };
  const space = () => {
    while (at < text.length && ' \t\n\r'.includes(text[at]!)) at++;
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
    at += word.length;
    return JSON.parse(word) as Json;
  };
  const read = value(depth);
  space();
  return at === text.length ? read : fail('something is left');
}

const WORD = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;

/** Whether a string has no half of a surrogate pair, so that UTF-8 can hold it. */
export const isWellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text);

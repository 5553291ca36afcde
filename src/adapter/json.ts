/** Deeper than any adapter's own JSON, and far from what a recursion can bear. */
const MAX_DEPTH = 32;

/**
 * JSON of a file one does not trust. Throws, in one line that begins with `what`, where it is no JSON, an object names a
 * key twice (readers would disagree on which counts), or it is nested more than 32 deep.
 */
export function parseJson(text: string, what: string): unknown {
  expectPlain(text, what);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new Error(`${what} is no JSON`);
  }
}

/** One pass over the text, before anything is made of it. */
function expectPlain(text: string, what: string): void {
  /** For every bracket that is open the keys so far; null in a list. */
  const open: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (character === '{' || character === '[') {
      open.push(character === '{' ? new Set() : null);
      if (open.length > MAX_DEPTH) throw new Error(`${what} is nested more than ${MAX_DEPTH} deep`);
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === '"') {
      const end = endOfString(text, i);
      const keys = open.at(-1);
      if (keys && /^\s*:/.test(text.slice(end, end + 8))) {
        const key = unescaped(text.slice(i, end));
        if (keys.has(key)) throw new Error(`${what} has the key ${quote(key)} twice`);
        keys.add(key);
      }
      i = end - 1;
    }
  }
}

/** Where the string that begins at `start` is over. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}

function unescaped(literal: string): string {
  try {
    return String(JSON.parse(literal));
  } catch {
    // Not a JSON string: what is to come is refused as a whole.
    return literal;
  }
}

/** A name of a file in a message: quoted, in one line, not longer than 80 characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 79)}…` : name).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Somebody else's message as part of one of ours: its first line, cut to 200 characters. */
export function firstLine(message: string): string {
  const line = message
    .trim()
    .split(/[\r\n\u2028\u2029]/)[0]!
    .replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ');
  return line.length > 200 ? `${line.slice(0, 199)}…` : line;
}

/** A plain object: what `{…}` in JSON becomes. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The properties of an object that JSON made, without anything it could inherit. */
export function own(record: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

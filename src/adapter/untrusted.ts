import {parseStrictJson} from './json.js';

/** Deeper than any adapter's own JSON, and far from what a recursion can bear. */
const MAX_DEPTH = 32;

/**
 * JSON of a file one does not trust. Throws, in one line that begins with `what`, where it is no JSON, an object names a
 * key twice (readers would disagree on which counts), or it is nested more than 32 deep.
 */
export function parseJson(text: string, what: string): unknown {
  try {
    parseStrictJson(text, MAX_DEPTH);
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new Error(`${what} is no JSON: ${oneLine((error as Error).message)}`);
  }
}

/** A name of a file in a message: quoted, in one line, not longer than 80 characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 79)}…` : name).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Somebody else's message in one line, cut to 300 characters. */
export function oneLine(message: string): string {
  const line = message.trim().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
  return line.length > 300 ? `${line.slice(0, 299)}…` : line;
}

/** A plain object: what `{…}` in JSON becomes. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The properties of an object that JSON made, without anything it could inherit. */
export function own(record: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

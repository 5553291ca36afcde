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
  return visible(JSON.stringify(name.length > 80 ? `${name.slice(0, 79)}…` : name));
}

/** What steers a terminal or turns text round: control characters, ends of lines, marks of direction. */
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** The same text with what is not seen written out, an ESC as `\\u001b`. */
export const visible = (text: string): string =>
  text.replace(HIDDEN, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** An error with names in it that came from a file or a model: one line, in which nothing is hidden. */
export const errorOf = (message: string, options?: ErrorOptions): Error =>
  new Error(visible(message), options);

/** Somebody else's message in one line, cut to 300 characters. */
export function oneLine(message: string): string {
  const line = message.trim().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
  return visible(line.length > 300 ? `${line.slice(0, 299)}…` : line);
}

/** Somebody else's error, as `errorOf` would have made it. */
export const seen = (error: unknown): unknown =>
  error instanceof Error && visible(error.message) !== error.message
    ? errorOf(error.message, {cause: error})
    : error;

/** A plain object: what `{…}` in JSON becomes. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The properties of an object that JSON made, without anything it could inherit. */
export function own(record: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

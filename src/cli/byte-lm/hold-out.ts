/** Makes what is held out of a text new to who has learned the rest. */

const newline = 10;

/** Bytes of the shortest stretch that counts as a repetition. */
const pieceLength = 48;

const factor = 0x01000193;

/**
 * The lines of `heldOut` that are not in `train`, neither whole nor with a stretch of 48 bytes, also across lines.
 */
export function withoutRepeats(heldOut: Uint8Array, train: Uint8Array): Uint8Array {
  const known = new Set(linesOf(train).map(keyOf));
  let left = Buffer.concat(linesOf(heldOut).filter(line => !known.has(keyOf(line))));
  for (;;) {
    const starts = repeatedPieces(left, train);
    if (starts.length === 0) return left;
    // What is left closes up, which can make a repetition anew.
    left = Buffer.concat(linesOf(left).filter(line => !touches(line, left, starts)));
  }
}

/** Where the stretches of 48 bytes of `text` start that `other` has too; sorted. */
export function repeatedPieces(text: Uint8Array, other: Uint8Array): number[] {
  const places = new Map<number, number[]>();
  // Answers nearly all questions in a fraction of the map's time.
  const present = new Uint8Array(2 ** 22);
  rollingHash(text, (hash, start) => {
    present[hash >>> 10] = 1;
    const found = places.get(hash);
    if (found) found.push(start);
    else places.set(hash, [start]);
  });
  const repeated: number[] = [];
  rollingHash(other, (hash, start) => {
    const candidates = present[hash >>> 10] === 1 ? places.get(hash) : undefined;
    if (!candidates) return;
    const piece = Buffer.from(other.buffer, other.byteOffset + start, pieceLength);
    const same = (i: number) => piece.equals(text.subarray(i, i + pieceLength));
    const others = candidates.filter(i => !same(i));
    if (others.length === candidates.length) return;
    repeated.push(...candidates.filter(same));
    if (others.length > 0) places.set(hash, others);
    else places.delete(hash);
  });
  return repeated.sort((a, b) => a - b);
}

function rollingHash(bytes: Uint8Array, visit: (hash: number, start: number) => void): void {
  let first = 1;
  for (let i = 0; i < pieceLength; i++) first = Math.imul(first, factor);
  let hash = 0;
  for (let i = 0; i < bytes.length; i++) {
    hash = (Math.imul(hash, factor) + bytes[i]! + 1) | 0;
    if (i >= pieceLength) hash = (hash - Math.imul(first, bytes[i - pieceLength]! + 1)) | 0;
    if (i >= pieceLength - 1) visit(hash, i - pieceLength + 1);
  }
}

/** With their line ends. */
function linesOf(bytes: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(newline, start) + 1 || bytes.length;
    lines.push(bytes.subarray(start, end));
    start = end;
  }
  return lines;
}

const keyOf = (line: Uint8Array) => Buffer.from(line).toString('latin1').trim();

function touches(line: Uint8Array, text: Uint8Array, starts: readonly number[]): boolean {
  const from = line.byteOffset - text.byteOffset;
  let [low, high] = [0, starts.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle]! + pieceLength <= from) low = middle + 1;
    else high = middle;
  }
  return low < starts.length && starts[low]! < from + line.length;
}

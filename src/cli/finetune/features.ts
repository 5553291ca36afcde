/** Columns of a table as the input of a model. */
import {percent, several} from '../table.js';
import {UsageError} from '../usage-error.js';
import {listed} from './labels.js';
import {commaAdvice, fault, hasDecimalComma, isMissing, numberIn, type Records} from './records.js';
import {idsOf, unknownShare, type Vocabulary, vocabularyFiles} from './vocabulary.js';

export interface Features {
  /** Of one example. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
  /** What text was read through. */
  readonly vocabulary?: Vocabulary;
  /** What people should know of them. */
  readonly note?: string | undefined;
}

/** What a model takes. */
export interface Input {
  /** Without the batch; null where any size will do. */
  readonly shape: readonly (number | null)[];
  /** Where it takes whole numbers below this, as an embedding does. */
  readonly vocabulary: number | null;
}

/**
 * Numbers in the order of the columns, row by row in the model's shape; for a model that begins with an embedding one
 * column of text, through its vocabulary.
 *
 * @throws UsageError that names the column and the line
 */
export function featuresOf(
  records: Records,
  columns: readonly string[],
  input: Input,
  vocabulary: Vocabulary | null,
): Features {
  const {name} = records;
  if (columns.length === 0) throw new UsageError(`${name} has no columns besides the label`);
  const places = columns.map(column => records.columns.indexOf(column));
  const texts = columns.filter((_, k) => isText(records, places[k]!));
  if (input.vocabulary !== null && columns.length === 1 && texts.length === 1) {
    if (!vocabulary) {
      throw new UsageError(
        `the column "${columns[0]}" is text and the model takes numbers of tokens: put its vocabulary beside its ` +
          `model.json, as ${vocabularyFiles[0]} (a token a line, counted from 0) or ${vocabularyFiles[1]}`,
      );
    }
    return tokensOf(records, places[0]!, input as Input & {vocabulary: number}, vocabulary);
  }
  if (
    input.shape.filter(axis => axis === null).length > 1 ||
    (input.shape.length > 1 && input.shape.includes(null))
  ) {
    throw new UsageError(
      `the model takes ${sizes(input.shape)} numbers for an example, and columns have no such shape`,
    );
  }
  const wanted = input.shape.reduce<number>((product, axis) => product * (axis ?? columns.length), 1);
  if (columns.length !== wanted) {
    const fix =
      columns.length > wanted
        ? 'leave columns out with --ignore'
        : 'more columns are needed, or another model';
    throw new UsageError(
      `the model takes ${sizes(input.shape)} numbers for an example, and ${name} has ${several(columns.length, 'column')} besides the label ` +
        `(${listed(columns)}): ${fix}`,
    );
  }
  const values = new Float32Array(records.rows.length * wanted);
  for (const [k, column] of columns.entries()) {
    records.rows.forEach((row, i) => {
      const cell = row[places[k]!]!;
      const value = numberIn(cell);
      if (value === null) throw unusable(records, column, places[k]!, i);
      if (input.vocabulary !== null && !(Number.isInteger(value) && value >= 0 && value < input.vocabulary)) {
        throw new UsageError(
          `the model takes whole numbers from 0 to ${input.vocabulary - 1}, and "${column}" is ${cell} in line ${records.lines[i]} of ${name}`,
        );
      }
      values[i * wanted + k] = value;
    });
  }
  return {shape: input.shape.map(axis => axis ?? columns.length), values};
}

const sizes = (shape: readonly (number | null)[]) => shape.map(axis => axis ?? 'any').join(' x ');

/** Whether the first cell that is there is no number. */
const isText = ({rows}: Records, place: number) => {
  const first = rows.find(row => !isMissing(row[place]!));
  return first !== undefined && numberIn(first[place]!) === null;
};

function unusable(records: Records, column: string, place: number, i: number): UsageError {
  const {name, rows, lines} = records;
  const cell = rows[i]![place]!;
  if (isMissing(cell)) {
    const others = rows.slice(i + 1).filter(row => isMissing(row[place]!)).length;
    const more = others > 0 ? ` and ${others} more` : '';
    const what = typeof cell === 'number' || cell.trim() === '' ? 'empty' : `missing ("${cell}")`;
    return new UsageError(
      `${name}: "${column}" is ${what} in line ${lines[i]}${more}: fill it, or leave such rows out with --drop-empty`,
    );
  }
  if (fault(cell) !== 'is no number') {
    return new UsageError(
      `${name}: "${column}" ${fault(cell)} in line ${lines[i]} (${cell}): give it in another unit`,
    );
  }
  if (hasDecimalComma(cell)) {
    return new UsageError(
      `${name}: "${column}" is no number in line ${lines[i]} ("${cell}"): ${commaAdvice(cell)}`,
    );
  }
  return new UsageError(
    `${name}: "${column}" is no number in line ${lines[i]} ("${cell}"): leave it out with --ignore ${/\s/.test(column) ? `"${column}"` : column}, or turn ` +
      'it into numbers',
  );
}

function tokensOf(
  records: Records,
  place: number,
  input: Input & {vocabulary: number},
  vocabulary: Vocabulary,
): Features {
  const texts = records.rows.map(row => String(row[place]));
  const ids = texts.map(text => idsOf(text, vocabulary));
  const length = input.shape[0] ?? Math.max(1, ...ids.map(list => list.length));
  const values = new Float32Array(ids.length * length).fill(vocabulary.pad);
  ids.forEach((list, i) => {
    const large = list.find(id => id < 0 || id >= input.vocabulary);
    if (large !== undefined) {
      throw new UsageError(
        `${vocabulary.file} has the number ${large}, and the model takes 0 to ${input.vocabulary - 1}`,
      );
    }
    values.set(list.slice(0, length), i * length);
  });
  const share = unknownShare(texts, vocabulary);
  if (share === 1 || ids.every(list => list.length === 0)) {
    throw new UsageError(`no token of ${vocabulary.file} is in the text of ${records.name}`);
  }
  const tokens = vocabulary.isOfCharacters ? 'characters' : 'words';
  const note =
    share > 0.5 ? `${percent(share)} of the ${tokens} of the text are not in ${vocabulary.file}` : undefined;
  return {shape: [length], values, vocabulary, note};
}

/** Rows without empty cells in the columns that count, and how many are left out. */
export function withoutEmpty(records: Records, columns: readonly string[]): {records: Records; left: number} {
  const places = columns.map(column => records.columns.indexOf(column));
  const kept = records.rows.flatMap((row, i) => (places.some(place => isMissing(row[place]!)) ? [] : [i]));
  const left = records.rows.length - kept.length;
  if (kept.length === 0)
    throw new UsageError(`every row of ${records.name} has an empty cell: nothing is left`);
  return {
    records: {...records, rows: kept.map(i => records.rows[i]!), lines: kept.map(i => records.lines[i]!)},
    left,
  };
}

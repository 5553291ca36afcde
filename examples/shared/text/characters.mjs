// The 65 characters of the model of Shakespeare, and how any other text is written with them.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';

/**
 * The characters in the order of the model's rows. In the file's vocabulary two keys are damaged, "" and two blanks;
 * they stand at 40 and 13, and u and U are what is missing: u, the 13th most frequent, is 13.
 */
export function readCharacters(folder) {
  const vocabulary = JSON.parse(readFileSync(join(folder, 'vocab.json'), 'utf8'));
  const characters = [];
  for (const [character, i] of Object.entries(vocabulary)) characters[i] = character;
  characters[13] = 'u';
  characters[40] = 'U';
  return characters;
}

const instead = {
  ...{'“': "'", '”': "'", '"': "'", '‘': "'", '’': "'"},
  ...{'(': ',', ')': ',', '[': ',', ']': ',', '{': ',', '}': ',', '—': '-', '–': '-'},
  ...{æ: 'ae', Æ: 'Ae', œ: 'oe', Œ: 'Oe', '£': '$'},
  // Marks of emphasis, and what spoils the first line of a file.
  ...{_: '', '*': '', '\r': '', '\ufeff': ''},
};

/**
 * A text as rows of the model. What it does not know becomes what is nearest: every quotation mark ', brackets a comma,
 * digits 3 (the one it knows), letters lose their accents; marks of emphasis are left out; the rest becomes a blank.
 * @returns {Int32Array}
 */
export function encode(text, characters) {
  const code = new Map(characters.map((character, i) => [character, i]));
  const codes = [];
  for (const character of text) {
    if (code.has(character)) {
      codes.push(code.get(character));
      continue;
    }
    const bare = character.normalize('NFD').replace(/\p{M}/gu, '');
    const near = instead[character] ?? (/\d/.test(character) ? '3' : bare);
    for (const letter of near) codes.push(code.get(letter) ?? code.get(' '));
  }
  return Int32Array.from(codes);
}

/** How many characters of a text are outside the alphabet. */
export function countOutside(text, characters) {
  const known = new Set(characters);
  let outside = 0;
  for (const character of text) if (!known.has(character)) outside++;
  return outside;
}

import {expect, test} from 'vitest';
import {proseOf} from '../../../src/cli/byte-lm/prose.js';

test('prose stays, markup goes', () => {
  const markdown = [
    '# A heading that is long enough to be prose',
    '[![build](https://example.org/b.svg)](https://example.org/b)',
    'A short library that reads *many* kinds of `text` files,',
    'and writes [them](https://example.org/them) again \u2014 it\u2019s small.',
    '',
    '```js',
    'const code = "this is not a sentence of the text";',
    '```',
    '| a table | with words in it | and more of them |',
    '| ------- | ---------------- | ---------------- |',
    '- The first item of a list is a sentence as well.',
    '- The second item follows it without an empty line.',
    '',
    '    indented code is not a sentence of the text either',
    '',
    'Some <b>bold</b> words are in this sentence, <!-- not this --> and some are not.',
    '',
    'too short to keep',
    '',
    'f(x) = {a: 1, b: [2, 3], c: "x"} + g(y, z) * 100 % 7;',
  ].join('\r\n');
  expect(proseOf(markdown)).toEqual([
    "A short library that reads many kinds of text files, and writes them again - it's small.",
    'The first item of a list is a sentence as well.',
    'The second item follows it without an empty line.',
    'Some bold words are in this sentence, and some are not.',
  ]);
});

test('only printable ASCII is left', () => {
  const [paragraph] = proseOf('The caf\u00e9 is open \ud83c\udf89 and everyone is very welcome to come in.');
  expect(paragraph).toBe('The caf is open and everyone is very welcome to come in.');
});

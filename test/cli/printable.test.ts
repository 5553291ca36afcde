import {expect, test} from 'vitest';
import {printable} from '../../src/cli/printable.js';

test('what could steer a terminal is replaced, lines and tabs stay', () => {
  expect(printable('a\u001b[2Jb\rc\u0007\u009b\u202ed\n\te\u00e9')).toBe(
    'a\ufffd[2Jb\ufffdc\ufffd\ufffd\ufffdd\n\te\u00e9',
  );
});

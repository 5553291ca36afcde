import {expect, test} from 'vitest';
import {table} from '../../src/cli/table.js';

test('columns are padded, numbers to the right', () => {
  expect(
    table([
      ['text', 'before', 'after'],
      ['target', '3.061', '1.98'],
      ['base', '2.9', '3.9'],
    ]),
  ).toBe(
    ['text    before  after', '------  ------  -----', 'target   3.061   1.98', 'base       2.9    3.9'].join(
      '\n',
    ),
  );
  expect(table([])).toBe('');
  expect(
    table(
      [
        ['a', 'b', 'text'],
        ['1', '22', 'x'],
      ],
      [2],
    ),
  ).toBe('a   b  text\n-  --  ----\n1  22  x');
});

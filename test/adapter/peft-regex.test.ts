import fc from 'fast-check';
import {describe, expect, test} from 'vitest';
import {byPattern, savedBy, UNLIMITED} from '../../src/adapter/peft/patterns.js';
import {Budget, endPattern} from '../../src/adapter/peft/regex.js';

const matches = (pattern: string, name: string) => endPattern(pattern)([...name], UNLIMITED);

describe('a pattern at the end of a name', () => {
  test.each<[string, string, boolean]>([
    ['b', 'b', true],
    ['b', 'a.b', true],
    ['b', 'ab', false],
    ['a.b', 'axb', true],
    ['a\\.b', 'axb', false],
    ['^b', 'b', true],
    ['^b', 'a.b', false],
    ['b$', 'a.b', true],
    ['layers\\.\\d+\\.(q|v)_proj', 'model.layers.12.v_proj', true],
    ['layers\\.\\d+\\.(q|v)_proj', 'model.layers.12.k_proj', false],
    ['layers\\.[0-9]\\.(?:q|v)_proj', 'layers.1.q_proj', true],
    ['[^.]+', 'a.b', true],
    ['[]a]', ']', true],
    ['[a-]', '-', true],
    ['[\\d_]+x', '1_2x', true],
    ['a|b', 'x.b', true],
    ['(a|)b', 'b', true],
    ['', 'a.', true],
    ['', 'a', false],
    ['\\w+', 'größe', true],
    ['\\d', '٣', true],
    ['\\W', '-', true],
    ['a*?b', 'aab', true],
    ['.', '😀', true],
    ['.*', 'a\nb', false],
  ])('%j of %j: %j', (pattern, name, wanted) => {
    expect(matches(pattern, name)).toBe(wanted);
  });

  test('is what the backtracking engine says it is', () => {
    const atom = fc.constantFrom('a', 'b', '.', '\\.', '[ab]', '[^a]', '\\w', '\\d', '1', '^', '$', '[a-b.]');
    const {pattern} = fc.letrec<{pattern: string; piece: string; atom: string}>(tie => ({
      atom: fc.oneof(
        {maxDepth: 1},
        atom,
        tie('pattern').map(inner => `(${inner})`),
        tie('pattern').map(inner => `(?:${inner})`),
      ),
      piece: fc
        .tuple(tie('atom'), fc.constantFrom('', '', '', '*', '+', '?', '*?', '+?'))
        .map(([one, times]) => (/^[$^]$/.test(one) ? one : one + times)),
      pattern: fc
        .array(fc.array(tie('piece'), {maxLength: 2}), {minLength: 1, maxLength: 2})
        .map(all => all.map(parts => parts.join('')).join('|')),
    }));
    const name = fc.string({unit: fc.constantFrom('a', 'b', '.', '1', '_'), maxLength: 5});
    let found = 0;
    fc.assert(
      fc.property(pattern, name, (given, module) => {
        const wanted = new RegExp(`^(.*\\.)?(${given})$`).test(module);
        if (wanted) found++;
        expect(matches(given, module)).toBe(wanted);
      }),
      // The other engine takes exponential time: of these patterns it does not.
      {numRuns: 3000, seed: 1},
    );
    expect(found).toBeGreaterThan(100);
  });

  test.each([
    ['a{2}', "'{'"],
    ['(?i:a)', "'(?i'"],
    ['(?=a)', "'(?='"],
    ['(a)\\1', "'\\1'"],
    ['\\ba', "'\\b'"],
    ['a**', "'**'"],
    ['a++', "'++'"],
    ['*a', "'*' there"],
    ['(a', "a '(' without ')'"],
    ['a)', "a ')' without '('"],
    ['[a', "a '[' without ']'"],
    ['[b-a]', "'b-a'"],
    ['a\\', "'\\'"],
  ])('%j is refused by name', (pattern, what) => {
    expect(() => endPattern(pattern)).toThrow(`has the pattern '${pattern}' with ${what}`);
  });

  test('takes steps as long as the pattern times the name at most, and no more than there are', () => {
    const steps = (n: number) => {
      let used = 0;
      const budget = new (class extends Budget {
        override spend(count: number): void {
          used += count;
        }
      })(0, () => {
        throw new Error('spent');
      });
      endPattern(`${'(a|a)'.repeat(n)}c`)([...`${'a'.repeat(n)}b`], budget);
      return used;
    };
    expect(steps(40)).toBeLessThan(40 * 40 * 100);
    expect(steps(80) / steps(40)).toBeLessThan(5);
    const small = new Budget(10, () => {
      throw new Error('spent');
    });
    expect(() => endPattern('(a|a)*c')([...'a'.repeat(100)], small)).toThrow('spent');
  });
});

test('the first pattern wins, and a name that none matches may stand itself', () => {
  const find = byPattern(
    [
      ['x.b', 1],
      ['b', 2],
      ['c+d', 3],
    ],
    UNLIMITED,
  );
  expect(['x.b', 'y.b', 'c+d', 'ccd', 'e'].map(find)).toEqual([1, 2, 3, 3, undefined]);
});

test('what modules_to_save takes: any ancestor whose name ends so', () => {
  const name = fc.string({unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 4});
  fc.assert(
    fc.property(
      fc.array(name, {maxLength: 4}),
      fc.string({unit: fc.constantFrom('a', 'b', '.'), maxLength: 9}),
      (names, module) => {
        const parts = module.split('.');
        const ancestors = parts.map((_, i) => parts.slice(0, i + 1).join('.'));
        const wanted = ancestors.some(key => names.some(end => key.endsWith(end)));
        expect(savedBy(names, UNLIMITED)(module)).toBe(wanted);
      },
    ),
    {numRuns: 2000},
  );
});

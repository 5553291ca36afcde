import * as prettier from 'prettier';
import {expect, test} from 'vitest';

interface Entry {
  residual: number;
  tolerance: number;
  what?: string;
}
type Kinds<T> = Record<string, {laws: Record<string, T>; oracles: Record<string, T>}>;
interface Script {
  merge(lists: object[][]): Kinds<Entry>;
  short(number: number): string;
  toMarkdown(methods: Kinds<Entry>): string;
  fromMarkdown(text: string): Kinds<number>;
  complaints(measured: Kinds<Entry>, said: Kinds<number>): string[];
}
const script = new URL('../../.ci/residuals.mjs', import.meta.url).href;
const {merge, short, toMarkdown, fromMarkdown, complaints} = (await import(script)) as Script;

const lists = [
  [
    {method: 'lora', check: 'adjoint', residual: 3.4e-7, tolerance: 2e-4},
    {method: 'lora', check: 'purity', residual: 0, tolerance: 0},
    {method: 'additive', check: 'adjoint', residual: 4e-8, tolerance: 2e-4},
    {method: 'additive', check: 'a law to come', residual: 4e-8, tolerance: 2e-4},
  ],
  [
    {method: 'lora', check: 'O10', residual: 1e-9, tolerance: 1e-6, what: 'a_1 = b|c|* [d] <e>'},
    {method: 'lora', check: 'O9, rank', residual: 2, tolerance: 2, what: 'rank'},
    {method: 'lora', check: 'O10', residual: 5e-8, tolerance: 1e-6, what: 'the worse'},
  ],
];

test('the worst of each check counts; what is no number is worst', () => {
  const {lora} = merge(lists);
  expect(lora!.oracles['O10']).toEqual({residual: 5e-8, tolerance: 1e-6, what: 'the worse'});
  const broken = merge([...lists, [{method: 'lora', check: 'adjoint', residual: null, tolerance: 1}]]);
  expect(broken['lora']!.laws['adjoint']!.residual).toBeNaN();
  expect(complaints(broken, fromMarkdown(toMarkdown(merge(lists))))).toEqual([
    'lora, adjoint: NaN is above the tolerance 1',
  ]);
});

test('one digit', () => {
  expect([0, 3.4e-7, 0.1, 2, 1e-10].map(short)).toEqual(['0', '3e-7', '1e-1', '2', '1e-10']);
});

test('the page says what was measured, formatted or not', async () => {
  const odd = {
    method: 'lora',
    check: 'O1, "a|b"',
    residual: 4e-8,
    tolerance: 1e-6,
    what: 'a_1 = b|c|* [d] <e> `f`',
  };
  const measured = merge([...lists, [odd]]);
  const text = toMarkdown(measured);
  const formatted = await prettier.format(text, {parser: 'markdown', printWidth: 110});
  expect(await prettier.format(formatted, {parser: 'markdown', printWidth: 110})).toBe(formatted);
  for (const page of [text, formatted]) {
    expect(fromMarkdown(page)).toEqual({
      additive: {laws: {adjoint: 4e-8, 'a law to come': 4e-8}, oracles: {}},
      lora: {laws: {adjoint: 3e-7, purity: 0}, oracles: {'O9, rank': 2, O10: 5e-8, 'O1, "a|b"': 4e-8}},
    });
    expect(complaints(measured, fromMarkdown(page))).toEqual([]);
  }
  // Known laws first, in the order of the contract; oracles by number.
  expect(text).toContain('|  | adjoint | purity | a law to come |');
  expect(text.indexOf('O9')).toBeLessThan(text.indexOf('O10'));
});

test('what only one side has, and what has become worse', () => {
  const measured = merge(lists);
  const said = () => fromMarkdown(toMarkdown(measured));
  const without = said();
  delete without['lora']!.oracles['O10'];
  delete (without as Partial<typeof without>)['additive'];
  expect(complaints(measured, without)).toEqual([
    'lora, O10: measured, but not on the page',
    'additive, adjoint: measured, but not on the page',
    'additive, a law to come: measured, but not on the page',
  ]);
  const more = said();
  more['vera'] = {laws: {start: 0}, oracles: {}};
  expect(complaints(measured, more)).toEqual(['vera, start: on the page, but not measured']);

  const worse = (residual: number) =>
    complaints(merge([...lists, [{method: 'lora', check: 'adjoint', residual, tolerance: 2e-4}]]), said());
  expect(worse(8e-6)).toEqual([]);
  expect(worse(1e-5)).toEqual(['lora, adjoint: 1e-5, more than 30 times what the page says (3e-7)']);
  expect(worse(3e-4)).toEqual(['lora, adjoint: 0.0003 is above the tolerance 0.0002']);
  // Below the floor nothing is worse.
  const tiny = (residual: number) =>
    complaints(
      merge([...lists, [{method: 'additive', check: 'adjoint', residual, tolerance: 2e-4}]]),
      said(),
    );
  expect([tiny(2.9e-6), tiny(3.1e-6).length]).toEqual([[], 1]);
});

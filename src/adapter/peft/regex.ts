/** Work that may still be done: a file says how much there is, and may say far too much. */
export class Budget {
  constructor(
    private left: number,
    private readonly fail: () => never,
  ) {}

  spend(steps: number): void {
    this.left -= steps;
    if (this.left < 0) this.fail();
  }
}

/**
 * A regular expression of Python's `re`, as PEFT takes one: what it matches must be a whole end of a module's name, from
 * its begin or a dot on; `re.match(rf"(.*\.)?({pattern})$", module)`.
 *
 * It is run as a set of states (K. Thompson, "Regular Expression Search Algorithm", CACM 11(6), 1968), so that the time is
 * at most the length of the pattern times that of the name, whatever both are. Read are characters, `.`, `\d \w \s` and
 * their opposites, classes `[a-z]`, `|`, `?`, `*`, `+`, groups `(…)` and `(?:…)`, `^` and `$`. As in Python, `\d` and `\w`
 * mean those of any script.
 *
 * @returns Whether a name matches, character by character.
 * @throws Error for anything else, which names it.
 */
export function endPattern(pattern: string): (module: readonly string[], budget: Budget) => boolean {
  const parsed = new Parser(pattern).whole();
  const tests = parsed.length === 1 ? parsed[0]!.map(part => part.test) : [undefined];
  if (tests.every(test => test !== undefined)) {
    return (module, budget) => {
      const from = module.length - tests.length;
      budget.spend(1);
      if (from < 0 || (from > 0 && module[from - 1] !== '.')) return false;
      budget.spend(tests.length);
      return tests.every((test, i) => test(module[from + i]!));
    };
  }
  const states: State[] = [{to: []}];
  const beforeDot = repeated({test: any, build: stepOn(any)});
  const ends: Part = {build: next => add(states, {only: 'end', to: [next]})};
  const dot: Part = {build: stepOn(c => c === '.')};
  const prefix = optional(alternatives([[beforeDot, dot]]));
  const start = sequence([prefix, alternatives(parsed), ends]).build(0, states);
  return (module, budget) => run(states, start, module, budget);
}

type Test = (character: string) => boolean;

interface State {
  /** A character that passes leads on; without a test the state leads on by itself. */
  readonly test?: Test;
  /** Only at the begin or the end of the name. */
  readonly only?: 'begin' | 'end';
  readonly to: number[];
}

/** A piece of a pattern: `build` adds its states, which lead to the state `next`, and gives the first. */
interface Part {
  /** It is one character. */
  readonly test?: Test;
  build(next: number, states: State[]): number;
}

/** What a state costs, in comparisons of a character. */
const STATE = 10;

const any: Test = character => character !== '\n';
const add = (states: State[], state: State): number => states.push(state) - 1;
const stepOn =
  (test: Test): Part['build'] =>
  (next, states) =>
    add(states, {test, to: [next]});
const sequence = (parts: readonly Part[]): Part => ({
  build: (next, states) => parts.reduceRight((after, part) => part.build(after, states), next),
});
const alternatives = (all: readonly (readonly Part[])[]): Part => ({
  build: (next, states) => add(states, {to: all.map(parts => sequence(parts).build(next, states))}),
});
const optional = (part: Part): Part => ({
  build: (next, states) => add(states, {to: [part.build(next, states), next]}),
});
const repeated = (part: Part, isNeeded = false): Part => ({
  build: (next, states) => {
    const again: State = {to: [next]};
    const at = add(states, again);
    const first = part.build(at, states);
    again.to.push(first);
    return isNeeded ? first : at;
  },
});

/** Whether the name leads from `start` to state 0. */
function run(states: readonly State[], start: number, name: readonly string[], budget: Budget): boolean {
  const reached = new Int32Array(states.length).fill(-1);
  /** All states that stand where no further character is needed. */
  const standing = (from: readonly number[], position: number): number[] => {
    const [open, found] = [[...from], [] as number[]];
    while (open.length > 0) {
      const at = open.pop()!;
      budget.spend(STATE);
      if (reached[at] === position) continue;
      reached[at] = position;
      const {test, only, to} = states[at]!;
      if (only === 'begin' ? position > 0 : only === 'end' && position < name.length) continue;
      if (test || at === 0) found.push(at);
      else open.push(...to);
    }
    return found;
  };
  let now = standing([start], 0);
  for (const [i, character] of name.entries()) {
    const next = now.filter(at => states[at]!.test?.(character)).flatMap(at => states[at]!.to);
    if (next.length === 0) return false;
    now = standing(next, i + 1);
  }
  return now.includes(0);
}

const CLASSES: Readonly<Record<string, RegExp>> = {d: /^\p{Nd}$/u, w: /^[\p{L}\p{N}_]$/u, s: /^\s$/u};

class Parser {
  private readonly text: readonly string[];
  private at = 0;

  constructor(private readonly pattern: string) {
    this.text = [...pattern];
  }

  whole(): Part[][] {
    const all = this.all();
    return this.at === this.text.length ? all : this.fail("a ')' without '('");
  }

  private all(): Part[][] {
    const all = [this.one()];
    while (this.take('|')) all.push(this.one());
    return all;
  }

  private one(): Part[] {
    const parts: Part[] = [];
    while (this.at < this.text.length && !'|)'.includes(this.text[this.at]!)) parts.push(this.piece());
    return parts;
  }

  private piece(): Part {
    const part = this.atom();
    const times = '?*+'.includes(this.text[this.at] ?? '!') ? this.text[this.at++]! : '';
    // That as few as possible are taken changes nothing for the name as a whole.
    if (times) this.take('?');
    if ('?*+{'.includes(this.text[this.at] ?? '!')) this.fail(`'${times}${this.text[this.at]}'`);
    if (times === '') return part;
    return times === '?' ? optional(part) : repeated(part, times === '+');
  }

  private atom(): Part {
    const character = this.text[this.at++]!;
    if (character === '(') {
      if (this.take('?') && !this.take(':')) this.fail(`'(?${this.text[this.at] ?? ''}'`);
      const all = this.all();
      return this.take(')') ? alternatives(all) : this.fail("a '(' without ')'");
    }
    if (character === '^') return {build: (next, states) => add(states, {only: 'begin', to: [next]})};
    if (character === '$') return {build: (next, states) => add(states, {only: 'end', to: [next]})};
    if ('?*+{'.includes(character)) this.fail(`'${character}' there`);
    const test =
      character === '.'
        ? any
        : character === '['
          ? this.set()
          : character === '\\'
            ? this.escaped()
            : is(character);
    return {test, build: stepOn(test)};
  }

  private set(): Test {
    const isNot = this.take('^');
    const tests: Test[] = [];
    for (let isFirst = true; isFirst || this.text[this.at] !== ']'; isFirst = false) {
      const from = this.text[this.at++] ?? this.fail("a '[' without ']'");
      const class_ = from === '\\' && CLASSES[this.text[this.at]?.toLowerCase() ?? ''];
      if (from === '\\' && class_) {
        tests.push(this.escaped());
        continue;
      }
      const low = from === '\\' ? this.literal() : from;
      if (this.text[this.at] !== '-' || this.text[this.at + 1] === ']') {
        tests.push(is(low));
        continue;
      }
      this.at++;
      const next = this.text[this.at++] ?? this.fail("a '[' without ']'");
      const high = next === '\\' ? this.literal() : next;
      const [a, b] = [low.codePointAt(0)!, high.codePointAt(0)!];
      if (a > b) this.fail(`'${low}-${high}'`);
      tests.push(c => c.codePointAt(0)! >= a && c.codePointAt(0)! <= b);
    }
    this.at++;
    return c => tests.some(test => test(c)) !== isNot;
  }

  private escaped(): Test {
    const character = this.text[this.at] ?? '';
    const class_ = CLASSES[character.toLowerCase()];
    if (!class_) return is(this.literal());
    this.at++;
    const isIn = character === character.toLowerCase();
    return c => class_.test(c) === isIn;
  }

  /** After a backslash: punctuation means itself, and letters mean more than is read here. */
  private literal(): string {
    const character = this.text[this.at++] ?? '';
    return /^[^\p{L}\p{N}]$/u.test(character) ? character : this.fail(`'\\${character}'`);
  }

  private take(character: string): boolean {
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private fail(what: string): never {
    const shown = this.pattern.length > 80 ? `${this.pattern.slice(0, 79)}…` : this.pattern;
    throw new Error(
      `has the pattern '${shown}' with ${what}, which is not read; name the modules one by one`,
    );
  }
}

const is =
  (wanted: string): Test =>
  c =>
    c === wanted;

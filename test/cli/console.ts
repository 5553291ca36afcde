import {afterEach, beforeEach, vi} from 'vitest';

/**
 * Keeps the terminal quiet in every test of a file, and undoes all mocks after each.
 * @returns what the test at hand has printed, wherever to: a text for each call; empty again in the next test
 */
export function heard(): string[] {
  const said: string[] = [];
  beforeEach(() => {
    said.length = 0;
    const say = (...parts: unknown[]) => said.push(parts.join(' ')) > 0;
    vi.spyOn(console, 'log').mockImplementation(say);
    vi.spyOn(console, 'error').mockImplementation(say);
    vi.spyOn(process.stdout, 'write').mockImplementation(say);
    vi.spyOn(process.stderr, 'write').mockImplementation(say);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });
  return said;
}

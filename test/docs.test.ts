import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {describe, expect, test} from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), {recursive: true, encoding: 'utf8'}).map(f => `docs/${f}`),
].filter(file => file.endsWith('.md') && !file.startsWith('docs/api/'));

describe('documentation', () => {
  test.each(pages)('%s: every link to a file leads somewhere', page => {
    const text = readFileSync(join(root, page), 'utf8').replace(/```[\s\S]*?```/g, '');
    for (const [, target] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      expect(existsSync(join(root, dirname(page), target!)), `${page} links to ${target}`).toBe(true);
    }
  });

  test('every parametrization has a page with its formula', () => {
    for (const file of readdirSync(join(root, 'src/parametrizations'))) {
      const page = join(root, 'docs/parametrizations', file.replace('.ts', '.md'));
      expect(existsSync(page), page).toBe(true);
      expect(readFileSync(page, 'utf8')).toMatch(/W = W0[\s\S]*When not to use it/);
    }
  });

  test('every option of the optimizer is explained', () => {
    const settings = readFileSync(join(root, 'src/settings.ts'), 'utf8');
    const names = [...settings.match(/OPTION_NAMES = \[([\s\S]*?)\]/)![1]!.matchAll(/'(\w+)'/g)].map(
      m => m[1]!,
    );
    expect(names.length).toBeGreaterThan(8);
    const page = readFileSync(join(root, 'docs/optimizer.md'), 'utf8');
    for (const name of names) expect(page, name).toContain(`\`${name}\``);
  });
});

import {readdirSync, readFileSync} from 'node:fs';
import {dirname, join, relative, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {describe, expect, test} from 'vitest';

const src = fileURLToPath(new URL('../src', import.meta.url));

/** Imports of every file, as paths below src (`parametrizations/lora.ts`) or package names. */
const graph = new Map(
  readdirSync(src, {recursive: true, encoding: 'utf8'})
    .filter(file => file.endsWith('.ts'))
    .map(file => {
      const text = readFileSync(join(src, file), 'utf8');
      const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(match => match[1]!);
      const resolved = specifiers.map(specifier =>
        specifier.startsWith('.')
          ? relative(src, resolve(src, dirname(file), specifier)).replace(/\.js$/, '.ts')
          : specifier,
      );
      return [file, resolved] as const;
    }),
);
const files = (prefix: string) => [...graph.keys()].filter(file => file.startsWith(prefix));
const importsOf = (file: string) => graph.get(file) ?? [];

/** All files below src that a file reaches. */
function reach(file: string, seen = new Set<string>()): Set<string> {
  for (const imported of importsOf(file)) {
    if (!graph.has(imported) || seen.has(imported)) continue;
    seen.add(imported);
    reach(imported, seen);
  }
  return seen;
}

describe('who may import whom', () => {
  test('the graph was read', () => {
    expect(importsOf('index.ts')).toContain('parametrizations/lora.ts');
    expect(graph.size).toBeGreaterThan(30);
  });

  test('every relative import exists', () => {
    for (const [file, imports] of graph) {
      for (const imported of imports.filter(path => path.endsWith('.ts'))) {
        expect(graph.has(imported), `${file} imports ${imported}`).toBe(true);
      }
    }
  });

  test('the optimizer and all it reaches know no parametrization', () => {
    const reached = [...reach('optimizer.ts')];
    expect(reached.filter(file => /^(parametrizations|init|precondition|rules)\//.test(file))).toEqual([]);
  });

  test('no entry but its own reaches the wasm kernels', () => {
    for (const entry of ['index.ts', 'testing/index.ts', 'reference/index.ts']) {
      expect([...reach(entry)].filter(file => file.startsWith('wasm/'))).toEqual([]);
    }
    expect(reach('wasm/index.ts').size).toBeGreaterThan(5);
    for (const file of reach('wasm/index.ts')) expect(file).toMatch(/^wasm\//);
  });

  test('a parametrization imports no other', () => {
    for (const file of files('parametrizations/')) {
      expect(importsOf(file).filter(path => path.startsWith('parametrizations/'))).toEqual([]);
    }
  });

  test('a preconditioner imports no parametrization and no other preconditioner', () => {
    for (const file of files('precondition/')) {
      expect(importsOf(file).filter(path => path.startsWith('parametrizations/'))).toEqual([]);
      const others = importsOf(file).filter(path => path.startsWith('precondition/'));
      expect(others.filter(path => path !== 'precondition/preconditioner.ts')).toEqual([]);
    }
  });

  test('only attachments, what holds saved state and what reads later keep or dispose', () => {
    const allowed = [
      'attachment.ts',
      'parametrized-weight.ts',
      'whole-weight.ts',
      'store.ts',
      'inner.ts',
      'slots.ts',
      'inners.ts',
      'guard.ts',
      'roster.ts',
      'checkpoint.ts',
      'inspect.ts',
      'optimizer.ts',
      'training.ts',
      'telemetry.ts',
      'rules/allocate-ranks.ts',
    ];
    for (const file of graph.keys()) {
      if (
        /^(cli|adapter|models|resume|wasm|reference|capture|testing)\//.test(file) ||
        allowed.includes(file)
      )
        continue;
      const text = readFileSync(join(src, file), 'utf8').replace(/\/\*\*?[\s\S]*?\*\/|\/\/.*/g, '');
      expect(text, file).not.toMatch(/\b(keep|dispose|variable)\(|\.dispose\(/);
    }
    for (const file of [...['parametrizations/', 'init/', 'linalg/', 'precondition/'].flatMap(files)]) {
      expect(allowed).not.toContain(file);
    }
  });

  test('tfjs-core is the only package outside the command line and the reference, and ml-matrix in linalg', () => {
    for (const [file, imports] of graph) {
      if (/^(cli|reference)\//.test(file)) continue;
      const packages = imports.filter(path => !path.endsWith('.ts'));
      const allowed = ['@tensorflow/tfjs-core', ...(file.startsWith('linalg/') ? ['ml-matrix'] : [])];
      expect(
        packages.filter(name => !allowed.includes(name)),
        file,
      ).toEqual([]);
    }
  });

  test('the reference shares no code with the library', () => {
    for (const file of files('reference/')) {
      for (const path of importsOf(file)) {
        expect(path, file).toMatch(/^(reference\/|ndarray$|ndarray-ops$|mathjs)/);
      }
    }
  });

  test('the law suite imports no test runner', () => {
    for (const file of files('testing/')) {
      expect(importsOf(file).join()).not.toMatch(/vitest|node:|jest|mocha/);
    }
  });

  test('nothing imports the index but the command line', () => {
    for (const [file, imports] of graph) {
      if (file.startsWith('cli/')) continue;
      expect(imports, file).not.toContain('index.ts');
    }
  });

  test('no cycles that a value takes part in', () => {
    const values = new Map(
      [...graph.keys()].map(file => {
        const text = readFileSync(join(src, file), 'utf8').replace(/(import|export) type [^;]*;/g, '');
        const imports = [...text.matchAll(/from '(\.[^']+)'/g)].map(match =>
          relative(src, resolve(src, dirname(file), match[1]!)).replace(/\.js$/, '.ts'),
        );
        return [file, imports] as const;
      }),
    );
    const visit = (file: string, path: string[]): void => {
      expect(path, 'a cycle').not.toContain(file);
      for (const next of values.get(file) ?? []) visit(next, [...path, file]);
    };
    visit('index.ts', []);
  });
});

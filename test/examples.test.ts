import {execFile} from 'node:child_process';
import {readdirSync, readFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import {promisify} from 'node:util';
import {expect, test} from 'vitest';

const folder = fileURLToPath(new URL('../examples', import.meta.url));

test.each(readdirSync(folder).filter(file => file.endsWith('.mjs')))('%s runs', async file => {
  const {stdout} = await promisify(execFile)(process.execPath, [`${folder}/${file}`]);
  expect(stdout).not.toBe('');
});

test('the parametrization of the example takes fewer than 40 lines', () => {
  const text = readFileSync(`${folder}/own-parametrization.mjs`, 'utf8');
  const variant = text.slice(text.indexOf('/**'), text.indexOf('await tf.setBackend'));
  expect(variant).toMatch(/^\/\*\*[\s\S]*function waves/);
  expect(variant.split('\n').filter(line => line.trim() !== '').length).toBeLessThan(40);
});

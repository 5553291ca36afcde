// Opens bench/doodlenet-page.mjs in headless Chromium, bundled, with its data.
import {existsSync, mkdtempSync, rmSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const flags = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-angle=gl-egl',
  '--ignore-gpu-blocklist',
];

/**
 * @param files what the page may fetch, by path, without the slash
 * @returns `call(name, ...args)` runs a function of the page; `close()` ends the browser
 */
export async function openPage(files, onStep) {
  if (!existsSync(executablePath)) throw new Error(`no Chromium at ${executablePath}: set CHROMIUM`);
  const {outputFiles} = await build({
    entryPoints: [fileURLToPath(new URL('doodlenet-page.mjs', import.meta.url))],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'error',
  });
  const served = {
    '': '<!doctype html><script type="module" src="page.js"></script>',
    'page.js': outputFiles[0].contents,
    ...files,
  };
  const types = {'': 'text/html', 'page.js': 'text/javascript'};
  const server = createServer((request, response) => {
    const path = request.url.slice(1);
    if (!(path in served)) return response.writeHead(404).end();
    response.writeHead(200, {'content-type': types[path] ?? 'application/octet-stream'}).end(served[path]);
  });
  await new Promise(ready => server.listen(0, '127.0.0.1', ready));
  const profile = mkdtempSync(join(tmpdir(), 'doodlenet-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: flags,
  });
  const page = await context.newPage();
  page.on('pageerror', error => console.error(error.message));
  await page.exposeFunction('told', onStep);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.train !== undefined);
  return {
    version: context.browser()?.version(),
    call: (name, ...args) => page.evaluate(([f, rest]) => globalThis[f](...rest), [name, args]),
    close: async () => {
      await context.close();
      server.close();
      rmSync(profile, {recursive: true, force: true});
    },
  };
}

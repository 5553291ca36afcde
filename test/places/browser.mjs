// A headless Chromium, and a page of it for each place.
import {createReadStream, existsSync, mkdtempSync, rmSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {basename, join} from 'node:path';
import {chromium} from 'playwright-core';
import {root} from './bundle.mjs';

/** Where a Chromium is, or null. */
export function findChromium() {
  if (process.env.CHROME_PATH) return existsSync(process.env.CHROME_PATH) ? process.env.CHROME_PATH : null;
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const paths = (process.env.PATH ?? '').split(':').flatMap(folder => names.map(name => join(folder, name)));
  return paths.find(path => existsSync(path)) ?? null;
}

const types = {js: 'text/javascript', wasm: 'application/wasm', html: 'text/html'};

/** Serves an empty page, the bundle and the wasm files, isolated, so that wasm may have threads. */
function serve(page) {
  const wasm = join(root, 'node_modules/@tensorflow/tfjs-backend-wasm/dist');
  const server = createServer((request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    const isolated = {
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Embedder-Policy': 'require-corp',
      'Cross-Origin-Resource-Policy': 'same-origin',
    };
    const send = (type, file) => {
      if (file && !existsSync(file)) return response.writeHead(404).end();
      response.writeHead(200, {...isolated, 'Content-Type': types[type]});
      if (file) createReadStream(file).pipe(response);
      else response.end('<!doctype html><title>places</title><script type="module" src="/page.js"></script>');
    };
    if (pathname === '/') send('html');
    else if (pathname === '/page.js') send('js', page);
    else if (pathname.startsWith('/wasm/')) send('wasm', join(wasm, basename(pathname)));
    else response.writeHead(404).end();
  });
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/** Starts a headless Chromium with a profile of its own, which `close` removes. */
export async function openChromium(executablePath) {
  const profile = mkdtempSync(join(tmpdir(), 'chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [
      ...['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', '--enable-unsafe-webgpu'],
    ],
  });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, {recursive: true, force: true});
    },
  };
}

/** Starts the browser; `run(setting)` measures in a fresh page, null where there is no such backend. */
export async function launch(executablePath, bundled) {
  const server = await serve(bundled);
  const {context, close} = await openChromium(executablePath);
  return {
    version: context.browser()?.version() ?? '',
    async run(setting, timeout) {
      const page = await context.newPage();
      const errors = [];
      if (process.env.PLACES_VERBOSE) page.on('console', message => console.log(message.text()));
      page.on('pageerror', error => errors.push(error.message));
      try {
        await page.goto(`http://127.0.0.1:${server.address().port}/`);
        await page.waitForFunction(() => globalThis.places, null, {timeout: 60_000});
        return await within(
          timeout,
          page.evaluate(setting => globalThis.places.run(setting), setting),
        );
      } catch (error) {
        throw new Error([error.message, ...errors].join('; '), {cause: error});
      } finally {
        await page.close();
      }
    },
    async close() {
      await close();
      server.close();
    },
  };
}

function within(ms, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${ms / 1000} s`)), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

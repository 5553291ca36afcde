// Runs every starter of examples/starters as someone would who copied it: against the package as `npm pack` makes it,
// with only what its package.json names beside it, linked from node_modules so that nothing is fetched. The pages are
// opened in Chromium, where there is one. `--screenshots FOLDER` keeps a picture of each.
import {execFileSync, spawnSync} from 'node:child_process';
import {cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {dirname, extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {findChromium, openChromium} from '../test/places/browser.mjs';

const {values: options} = parseArgs({options: {screenshots: {type: 'string'}}});
const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'starters-'));
const packed = join(folder, 'package');
const failures = [];
const types = {'.html': 'text/html', '.js': 'text/javascript'};

try {
  pack();
  for (const name of ['node-esm', 'node-cjs']) await check(name, () => runNode(copyOf(name)));
  const chromium = findChromium();
  await check('vite', async () => {
    const built = await buildVite(copyOf('vite'));
    return chromium ? open('vite', chromium, built) : 'built; not opened, there is no Chromium';
  });
  await check('html', () =>
    chromium ? open('html', chromium, copyOf('html')) : 'skipped: there is no Chromium',
  );
} finally {
  rmSync(folder, {recursive: true, force: true});
}
if (failures.length > 0) process.exit(1);

async function check(name, run) {
  try {
    console.log(`${name}: ${await run()}`);
  } catch (error) {
    failures.push(name);
    console.error(`${name}: failed: ${error.message}`);
  }
}

function pack() {
  const args = ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder];
  const file = execFileSync('npm', args, {cwd: root, encoding: 'utf8'}).trim().split('\n').at(-1);
  execFileSync('tar', ['-xzf', join(folder, file), '-C', folder]);
}

/** A copy of a starter with the packages it names, theirs, and those that npm installs because a package asks for them. */
function copyOf(name) {
  const copy = join(folder, name);
  cpSync(join(packed, 'examples/starters', name), copy, {recursive: true});
  const manifest = join(copy, 'package.json');
  if (existsSync(manifest)) {
    const {dependencies} = JSON.parse(readFileSync(manifest, 'utf8'));
    install(copy, Object.entries(dependencies));
  }
  return copy;
}

function install(copy, wanted) {
  const to = join(copy, 'node_modules');
  for (const [name, range] of wanted) {
    const target = join(to, name);
    if (existsSync(target)) continue;
    const from = name === 'tfjs-lora' ? packed : join(root, 'node_modules', name);
    const {
      version,
      dependencies = {},
      peerDependencies = {},
      peerDependenciesMeta = {},
    } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'));
    if (!fits(version, range)) throw new Error(`${name} ${range} is asked for, and here is ${version}`);
    mkdirSync(dirname(target), {recursive: true});
    if (name !== 'tfjs-lora') {
      symlinkSync(from, target, 'junction');
      continue;
    }
    cpSync(from, target, {recursive: true});
    const peers = Object.entries(peerDependencies).filter(([peer]) => !peerDependenciesMeta[peer]?.optional);
    install(copy, [...Object.entries(dependencies), ...peers]);
  }
}

/** Whether a version is in a range that begins with a caret. */
function fits(version, range) {
  const [is, from] = [version, range.replace('^', '')].map(text => text.split('.').map(Number));
  const fixed = from.findIndex(n => n > 0);
  const differs = from.findIndex((n, i) => n !== is[i]);
  return differs === -1 || (differs > fixed && is[differs] > from[differs]);
}

function runNode(copy) {
  const {status, stdout, stderr} = spawnSync('npm', ['start', '--silent'], {cwd: copy, encoding: 'utf8'});
  if (status !== 0) throw new Error(stderr.trim() || `exit code ${status}`);
  if (/Error|Warning/.test(stderr)) throw new Error(stderr.trim());
  if (!existsSync(join(copy, 'adapter.safetensors'))) throw new Error('it wrote no adapter.safetensors');
  return told(stdout);
}

async function buildVite(copy) {
  const {build} = await import('vite');
  const warnings = [];
  const logger = {
    ...{info() {}, warn: text => warnings.push(text), warnOnce: text => warnings.push(text)},
    ...{error: text => warnings.push(text), clearScreen() {}, hasErrorLogged: () => false, hasWarned: false},
  };
  await build({root: copy, customLogger: logger, logLevel: 'warn', build: {chunkSizeWarningLimit: 4096}});
  if (warnings.length > 0) throw new Error(warnings.join('\n'));
  return join(copy, 'dist');
}

/** Opens a page; what it asks of cdn.jsdelivr.net is answered from the packages here, as jsdelivr would. */
async function open(name, chromium, site) {
  const server = await serve(site);
  const {context, close} = await openChromium(chromium);
  try {
    const page = await context.newPage();
    const errors = [];
    page.on('pageerror', error => errors.push(error.message));
    page.on('console', message => {
      if (message.type() === 'error') errors.push(`${message.text()} ${message.location().url}`);
    });
    const origin = `http://127.0.0.1:${server.address().port}/`;
    await page.route(
      url => url.origin !== new URL(origin).origin,
      route => {
        const path = fromCdn(route.request().url());
        return path ? route.fulfill({path, contentType: 'text/javascript'}) : route.abort();
      },
    );
    await page.goto(origin);
    const done = page.waitForFunction(
      () => /^saved/m.test(document.querySelector('#log').textContent),
      null,
      {
        timeout: 60_000,
      },
    );
    await done.catch(error => errors.push(error.message.split('\n')[0]));
    if (options.screenshots) {
      mkdirSync(options.screenshots, {recursive: true});
      await page.setViewportSize({width: 480, height: 200});
      await page.screenshot({path: join(options.screenshots, `${name}.png`)});
    }
    if (errors.length > 0) throw new Error(errors.join('; '));
    return told(await page.textContent('#log'));
  } finally {
    await close();
    server.close();
  }
}

function fromCdn(url) {
  const match = /^https:\/\/cdn\.jsdelivr\.net\/npm\/((?:@[^/]+\/)?[^/@]+)@([^/]+)$/.exec(url);
  if (!match) return null;
  const [, name, version] = match;
  const from = name === 'tfjs-lora' ? packed : join(root, 'node_modules', name);
  const manifest = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'));
  return `${manifest.version}.`.startsWith(`${version}.`) ? join(from, manifest.jsdelivr) : null;
}

function serve(site) {
  const server = createServer((request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    // Browsers ask for an icon unbidden.
    if (pathname === '/favicon.ico') return response.writeHead(204).end();
    const file = join(site, pathname === '/' ? 'index.html' : pathname);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, {'Content-Type': types[extname(file)] ?? 'application/octet-stream'});
    response.end(readFileSync(file));
  });
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

/** What a starter said, if the loss fell to less than half. */
function told(text) {
  const [before, after] = ['before', 'after'].map(when =>
    Number(new RegExp(`^loss ${when} (\\S+)$`, 'm').exec(text)?.[1]),
  );
  if (!(after < before / 2)) throw new Error(`the loss went from ${before} to ${after}:\n${text}`);
  return `loss ${before} to ${after}`;
}

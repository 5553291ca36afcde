// Adapters and checkpoints in a real browser: every store it has, downloads and uploads, files over http, and a training
// that a reload interrupts. Skipped, with the reason, where there is no Chromium. `--backends cpu,wasm` chooses.
import assert from 'node:assert/strict';
import {createReadStream, existsSync, mkdirSync, readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {basename, join} from 'node:path';
import {parseArgs} from 'node:util';
import {bundlePage, folder, root} from '../places/bundle.mjs';
import {findChromium, openChromium} from '../places/browser.mjs';

const {values: options} = parseArgs({options: {backends: {type: 'string', default: 'cpu,wasm,webgl'}}});
const path = findChromium();
if (!path) {
  console.log('browser: skipped: no chromium on PATH, and CHROME_PATH names none');
  process.exit(0);
}
const script = join(folder, 'browser.js');
mkdirSync(folder, {recursive: true});
await bundlePage(join(root, 'test/browser/page.ts'), script);

/** Files that were downloaded, encoded or uploaded, by their path. */
const files = new Map();
const server = await serve();
const origin = `http://127.0.0.1:${server.address().port}`;
const {context, close} = await openChromium(path);
let checks = 0;
try {
  for (const backend of options.backends.split(',')) await inBackend(backend);
  console.log(`browser: ${checks} checks of adapters and checkpoints, none failed`);
} finally {
  await close();
  server.close();
}

async function inBackend(backend) {
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', error => errors.push(error.message));
  const call = (name, ...args) =>
    page.evaluate(([name, args]) => globalThis.page[name](...args), [name, args]);
  const begin = async () => {
    await page.goto(origin);
    await page.waitForFunction(() => globalThis.page, null, {timeout: 60_000});
    return call('start', backend);
  };
  if (!(await begin())) {
    console.log(`browser, ${backend}: skipped: this Chromium has none`);
    return;
  }
  const same = (is, wanted, what) => {
    assert.deepEqual(is, wanted, `${backend}: ${what}`);
    checks++;
  };
  const {before, after} = await call('trained');
  assert.notDeepEqual(before, after);

  const stores = await call('stores');
  same(stores.listed, ['indexeddb://mine', 'localstorage://mine'], 'tfjs lists what was saved');
  same(stores.moved, ['indexeddb://copy', 'localstorage://moved'], 'copies, moves and removes it');
  for (const weights of stores.weights) same(weights, after, 'and it is the same adapter');
  for (const message of stores.removed) assert.match(message, /[Nn]o model|[Cc]annot find model/);
  assert.match(stores.asModel, /./);
  assert.notEqual(stores.asModel, 'it worked');
  same([stores.isReplaced, stores.left], [true, []], 'a second save replaces it, and nothing stays');

  const downloads = [];
  page.on('download', download => downloads.push(download));
  await call('save', 'downloads://adapter');
  for (let wait = 0; downloads.length < 2 && wait < 100; wait++) await page.waitForTimeout(50);
  for (const download of downloads) {
    files.set(`/downloaded/${download.suggestedFilename()}`, readFileSync(await download.path()));
  }
  same(
    [...files.keys()].filter(name => name.startsWith('/downloaded/')).sort(),
    ['/downloaded/adapter.json', '/downloaded/adapter.weights.bin'],
    'two files are downloaded',
  );
  same(await call('loaded', `${origin}/downloaded/adapter.json`), after, 'which http gives back');
  const choose = names =>
    page.setInputFiles(
      'input',
      names.map(name => ({name: basename(name), mimeType: '', buffer: files.get(name)})),
    );
  await choose(['/downloaded/adapter.json', '/downloaded/adapter.weights.bin']);
  same(await call('chosen'), after, 'and a choice of files');

  await call('save', `${origin}/upload`);
  same(await call('loaded', `${origin}/uploaded/model.json`), after, 'an upload comes back');

  files.set('/adapter.safetensors', Buffer.from(await call('safetensors')));
  same(await call('loaded', `${origin}/adapter.safetensors`), after, 'a .safetensors file is fetched');
  await choose(['/adapter.safetensors']);
  same(await call('chosen'), after, 'and chosen');
  assert.match(await call('refused', `${origin}/nothing.safetensors`), /answers 404/);
  assert.match(await call('refused', 'file://adapter.safetensors'), /file:\/\/ is for Node/);

  const whole = await call('whole');
  for (const store of ['indexeddb', 'localstorage']) {
    await begin();
    const run = `${store}://runs/${backend}`;
    const wanted = [`${run}/000002-step-4`, `${run}/000003-step-6`];
    same(await call('begin', run), wanted, 'the newest two are kept');
    await begin();
    const resumed = {address: wanted[1], step: 6, data: {page: 1}, weights: whole};
    same(await call('goOn', run), resumed, 'a reload loses no bit');
    if (store === 'indexeddb') continue;
    await call('damage', wanted[1]);
    const passedOver = {...resumed, address: wanted[0], step: 4};
    same(await call('goOn', run), passedOver, 'a damaged one is passed over');
  }
  assert.match(
    await call('refused', `indexeddb://runs/${backend}/000003-step-6`),
    /a checkpoint, not an adapter/,
  );
  await call('clear');
  same(errors, [], 'no error was thrown past anyone');
  files.clear();
  await page.close();
}

/** The page, the wasm files, what is in `files`; takes uploads into it. */
function serve() {
  const isolated = {
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
  };
  const wasm = join(root, 'node_modules/@tensorflow/tfjs-backend-wasm/dist');
  const server = createServer(async (request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    const send = (type, body) => response.writeHead(200, {...isolated, 'Content-Type': type}).end(body);
    const stream = (type, file) =>
      createReadStream(file).pipe(response.writeHead(200, {...isolated, 'Content-Type': type}));
    if (pathname === '/') {
      send(
        'text/html',
        '<!doctype html><input type="file" multiple><script type="module" src="/page.js"></script>',
      );
    } else if (pathname === '/page.js') stream('text/javascript', script);
    else if (pathname === '/favicon.ico') response.writeHead(204).end();
    else if (files.has(pathname)) send('application/octet-stream', files.get(pathname));
    else if (pathname === '/upload') {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const headers = {'Content-Type': request.headers['content-type']};
      for (const [, file] of await new Response(Buffer.concat(chunks), {headers}).formData()) {
        files.set(`/uploaded/${file.name}`, Buffer.from(await file.arrayBuffer()));
      }
      send('text/plain', '');
    } else if (pathname.startsWith('/wasm/') && existsSync(join(wasm, basename(pathname)))) {
      stream('application/wasm', join(wasm, basename(pathname)));
    } else response.writeHead(404).end();
  });
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

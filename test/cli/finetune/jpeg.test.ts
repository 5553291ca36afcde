import {execFile} from 'node:child_process';
import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, expect, test} from 'vitest';
import {chooseBackend} from '../../../src/cli/backend.js';
import {decodeJpeg, loadJpegReader} from '../../../src/cli/finetune/jpeg.js';
import type {ClassScores} from '../../../src/cli/finetune/measure.js';
import {readPictures} from '../../../src/cli/finetune/pictures.js';
import type {Result} from '../../../src/cli/finetune/result.js';
import {run} from '../../../src/cli/run.js';
import {heard} from '../console.js';
import {init, modelIn, write} from './make.js';

interface Encoder {
  encode(image: {width: number; height: number; data: Uint8Array}, quality: number): {data: Uint8Array};
}
const {encode} = createRequire(import.meta.url)('jpeg-js') as Encoder;

type Colour = readonly [red: number, green: number, blue: number];

/** A JPEG by a function of the place. */
function jpeg(width: number, height: number, colour: (x: number, y: number) => Colour): Uint8Array {
  const data = new Uint8Array(4 * width * height).fill(255);
  for (let i = 0; i < width * height; i++) data.set(colour(i % width, Math.floor(i / width)), 4 * i);
  return encode({width, height, data}, 95).data;
}

let folder: string;
const said = heard();
const at = (...parts: string[]) => join(folder, ...parts);
const finetune = (data: string, out: string, ...args: string[]) =>
  run(['finetune', at('seeing'), at(data), '--out', at(out), ...args]);
const resultOf = (out: string) => JSON.parse(readFileSync(at(out, 'result.json'), 'utf8')) as Result;

/** Slow waves: what a JPEG holds well. */
const waves = (x: number, y: number): Colour => [
  128 + 100 * Math.sin(x / 6),
  128 + 100 * Math.cos(y / 5),
  60 + 3 * x + 2 * y,
];

beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'jpeg-'));
  await modelIn(at('seeing'), [
    tf.layers.conv2d({
      ...{filters: 4, kernelSize: 3, inputShape: [16, 16, 3], activation: 'relu'},
      kernelInitializer: init(1),
    }),
    tf.layers.globalAveragePooling2d({}),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(2)}),
  ]);
  for (let i = 0; i < 24; i++) {
    const isRed = i % 2 === 0;
    const shade = 150 + 4 * i;
    const image = jpeg(16, 16, x => (isRed ? [shade, 20, 3 * x] : [20, shade, 3 * x]));
    write(at('colours', isRed ? 'red' : 'green', `${i}.${i % 3 === 0 ? 'JPG' : 'jpeg'}`), image);
  }
});
afterAll(() => rmSync(folder, {recursive: true}));

test('pixels come back within the error of a JPEG, also under a name of PNG', async () => {
  write(at('waves/a/1.jpg'), jpeg(37, 21, waves));
  write(at('waves/b/2.png'), jpeg(37, 21, waves));
  const pictures = await readPictures(at('waves'));
  for (const i of [0, 1]) {
    const {width, height, channels, bytes} = await pictures.read(i);
    expect([width, height, channels, bytes.length]).toEqual([37, 21, 3, 37 * 21 * 3]);
    let [worst, sum] = [0, 0];
    bytes.forEach((byte, k) => {
      const place = Math.floor(k / 3);
      const error = Math.abs(byte - waves(place % 37, Math.floor(place / 37))[k % 3]!);
      worst = Math.max(worst, error);
      sum += error;
    });
    expect(worst).toBeLessThan(24);
    expect(sum / bytes.length).toBeLessThan(3);
  }
});

test('a folder of them is learned', async () => {
  expect(await finetune('colours', 'learned', '--steps', '40', '--batch', '8', '--lr', '0.05')).toBe(0);
  const {heldOut, loss, task, input} = resultOf('learned');
  expect(task).toMatchObject({classes: ['green', 'red']});
  expect(input.shape).toEqual([16, 16, 3]);
  expect(loss.at(-1)!).toBeLessThan(loss[0]! / 2);
  expect((heldOut.after as ClassScores).accuracy).toBe(1);
});

test.each([
  ['cut off in the middle', (file: Uint8Array) => file.subarray(0, file.length >> 1)],
  ['cut off near the end', (file: Uint8Array) => file.subarray(0, file.length - 12)],
  ['cut off within its header', (file: Uint8Array) => file.subarray(0, 40)],
])('one that is %s is told, with its name', async (what, cut) => {
  const data = what.replaceAll(' ', '-');
  write(at(data, 'a/1.jpg'), cut(jpeg(16, 16, waves)));
  write(at(data, 'b/2.jpg'), jpeg(16, 16, waves));
  expect(await finetune(data, 'none')).toBe(2);
  expect(said).toEqual([
    expect.stringMatching(
      /^tfjs-lora: .*1\.jpg is a JPEG that cannot be read.*: the file is damaged or ends in the middle$/,
    ),
  ]);
});

test('one of too many pixels is refused before there is memory for it', async () => {
  const file = Uint8Array.from(jpeg(16, 16, waves));
  const frame = file.findIndex((byte, i) => byte === 0xff && file[i + 1] === 0xc0);
  new DataView(file.buffer).setUint16(frame + 5, 60_000);
  new DataView(file.buffer).setUint16(frame + 7, 60_000);
  const reader = await loadJpegReader();
  expect(() => decodeJpeg(file, reader)).toThrow('has more than 67 million pixels');
});

test('without the package that reads them, that is told', async () => {
  const hook = `export const resolve = (name, context, next) => {
    if (name === 'jpeg-js') throw Object.assign(new Error("Cannot find package 'jpeg-js'"), {code: 'ERR_MODULE_NOT_FOUND'});
    return next(name, context);
  };`;
  const start = `import {register} from 'node:module';
    register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hook)}));`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(start)}`, 'dist/cli/main.js'];
  const call = ['finetune', at('seeing'), at('colours'), '--out', at('unread')];
  const told = await new Promise<{code: unknown; stderr: string}>(resolve =>
    execFile(process.execPath, [...args, ...call], (error, _, stderr) =>
      resolve({code: error?.code, stderr}),
    ),
  );
  expect(told.code).toBe(2);
  expect(told.stderr).toBe(
    'tfjs-lora: JPEG images are read by jpeg-js, which is not installed: npm install jpeg-js, or save them as PNG\n',
  );
});

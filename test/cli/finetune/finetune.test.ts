import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {afterAll, beforeAll, describe, expect, test, vi} from 'vitest';
import {decodeAdapter} from '../../../src/adapter/format.js';
import {ioHandler} from '../../../src/adapter/io.js';
import {mergeAdapter} from '../../../src/adapter/merge.js';
import {chooseBackend} from '../../../src/cli/backend.js';
import {loadModel} from '../../../src/cli/files.js';
import type {ClassScores, NumberScores} from '../../../src/cli/finetune/measure.js';
import {unfreeze} from '../../../src/cli/finetune/model.js';
import type {Result} from '../../../src/cli/finetune/result.js';
import {run} from '../../../src/cli/run.js';
import {heard} from '../console.js';
import {clouds, csv, dense, grey, init, modelIn, png, write} from './make.js';

let folder: string;
const said = heard();
const at = (...parts: string[]) => join(folder, ...parts);
beforeAll(async () => {
  await chooseBackend('wasm');
  folder = mkdtempSync(join(tmpdir(), 'finetune-'));
  await dense(at('two'), 2, 2, 'softmax');
  await dense(at('three'), 2, 3, 'softmax');
  await dense(at('sure'), 2, 1, 'sigmoid');
  await dense(at('many'), 2, 3, 'sigmoid');
  await dense(at('one'), 2, 1, 'linear');
  await dense(at('pair'), 2, 2, 'linear');
  await modelIn(at('image'), [
    tf.layers.conv2d({
      filters: 4,
      kernelSize: 3,
      inputShape: [6, 6, 1],
      activation: 'relu',
      kernelInitializer: init(1),
    }),
    tf.layers.batchNormalization(),
    tf.layers.flatten(),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(2)}),
  ]);
  await modelIn(at('headless'), [tf.layers.conv2d({filters: 4, kernelSize: 3, inputShape: [6, 6, 1]})]);
  await modelIn(at('flat'), [
    tf.layers.dense({units: 8, inputShape: [2], activation: 'tanh', kernelInitializer: init(4)}),
    tf.layers.dropout({rate: 0.1}),
  ]);
  await modelIn(at('words'), [
    tf.layers.embedding({inputDim: 6, outputDim: 4, inputLength: 3, embeddingsInitializer: init(5)}),
    tf.layers.flatten(),
    tf.layers.dense({units: 2, activation: 'softmax', kernelInitializer: init(6)}),
  ]);
  write(at('clouds.csv'), clouds(80));
  for (let i = 0; i < 20; i++) {
    const isTop = i % 2 === 0;
    const image = grey(6, 6, (_, y) => (y < 3 === isTop ? 200 : 20) + ((i * 7 + y) % 30));
    write(at('photos', isTop ? 'top' : 'under', `${i}.png`), image);
  }
});
afterAll(() => rmSync(folder, {recursive: true}));

const finetune = (model: string, data: string, out: string, ...args: string[]) =>
  run(['finetune', at(model), at(data), '--out', at(out), ...args]);
const resultOf = (out: string) => JSON.parse(readFileSync(at(out, 'result.json'), 'utf8')) as Result;

describe('mistakes are one line, and nothing is written', () => {
  const table = (name: string, text: string) => write(at(name), text);
  const row = (i: number) => [i, i % 7, i % 2 === 0 ? 'x' : 'y'];

  const mistakes: [string, () => [model: string, data: string, ...args: string[]], string | RegExp][] = [
    ['no model', () => ['nothing', 'clouds.csv'], /no model: .*nothing is missing/],
    [
      'no weights',
      () => {
        write(at('torn/model.json'), readFileSync(at('two/model.json')));
        return ['torn', 'clouds.csv'];
      },
      'names weights.bin, which is missing',
    ],
    [
      'a model of another kind',
      () => {
        write(
          at('graph/model.json'),
          JSON.stringify({format: 'graph-model', modelTopology: {node: []}, weightsManifest: []}),
        );
        return ['graph', 'clouds.csv'];
      },
      'is a GraphModel',
    ],
    [
      'weights that are cut off',
      () => {
        write(at('short/model.json'), readFileSync(at('two/model.json')));
        write(at('short/weights.bin'), readFileSync(at('two/weights.bin')).subarray(0, 50));
        return ['short', 'clouds.csv'];
      },
      // (2 * 12 + 12) + (12 * 12 + 12) + (12 * 2 + 2) numbers of 4 bytes
      'names 872 bytes of weights, and there are 50 in weights.bin',
    ],
    [
      'a layer that tfjs does not know',
      () => {
        const json = readFileSync(at('two/model.json'), 'utf8').replace('"Dense"', '"MyFancy"');
        write(at('fancy/model.json'), json);
        write(at('fancy/weights.bin'), readFileSync(at('two/weights.bin')));
        return ['fancy', 'clouds.csv'];
      },
      /a layer of the class MyFancy, which tfjs does not know: .*registerClass makes the class known$/,
    ],
    [
      'weights that are NaN',
      () => {
        write(at('ill/model.json'), readFileSync(at('two/model.json')));
        const weights = new Float32Array(872 / 4);
        weights[40] = NaN;
        write(at('ill/weights.bin'), new Uint8Array(weights.buffer));
        return ['ill', 'clouds.csv'];
      },
      /the weight .*kernel holds NaN or infinite numbers before any training/,
    ],
    [
      "model and data in each other's place",
      () => ['clouds.csv', 'two'],
      /the model comes first, then the data: tfjs-lora finetune .*two .*clouds.csv$/,
    ],
    [
      'a number beyond float32',
      () => [
        'two',
        (table(
          'large.csv',
          csv(9, i => [i === 4 ? '5e38' : i, i, i % 2]),
        ),
        'large.csv'),
      ],
      '"a" is too large for float32 in line 6 (5e38)',
    ],
    [
      'a label beyond float32',
      () => [
        'one',
        (table(
          'far.csv',
          csv(9, i => [i, i, i === 4 ? '-5e38' : i]),
        ),
        'far.csv'),
      ],
      'the label "label" is too large for float32 in line 6 of far.csv (-5e38)',
    ],
    [
      'a cell that stands for nothing',
      () => [
        'two',
        (table(
          'na.csv',
          csv(9, i => [i === 4 ? 'NA' : i, i, i % 2]),
        ),
        'na.csv'),
      ],
      'na.csv: "a" is missing ("NA") in line 6: fill it',
    ],
    [
      'a label that stands for nothing',
      () => [
        'two',
        (table(
          'nolabel.csv',
          csv(9, i => [i, i, i === 4 ? 'NaN' : i % 2]),
        ),
        'nolabel.csv'),
      ],
      'the label "label" is missing ("NaN") in line 6 of nolabel.csv',
    ],
    [
      'text of unknown words',
      () => {
        for (const file of ['model.json', 'weights.bin'])
          write(at('foreign', file), readFileSync(at('words', file)));
        write(at('foreign/vocabulary.txt'), '[PAD]\n[UNK]\ngood\nbad\nfilm\n');
        table(
          'foreign.csv',
          csv(9, i => ['un bon fil', i % 2], ['text', 'label']),
        );
        return ['foreign', 'foreign.csv'];
      },
      /no token of .*vocabulary.txt is in the text of foreign.csv/,
    ],
    ['a file that is no model', () => ['clouds.csv', 'clouds.csv'], 'is no JSON'],
    [
      'weights elsewhere',
      () => {
        const json = readFileSync(at('two/model.json'), 'utf8').replace('weights.bin', '../two/weights.bin');
        write(at('outside/model.json'), json);
        return ['outside', 'clouds.csv'];
      },
      'names a weight file elsewhere',
    ],
    [
      'a wrong label column',
      () => ['two', 'clouds.csv', '--label', 'colour'],
      '--label: clouds.csv has no column "colour"; there is a, b, label',
    ],
    [
      'a wrong column to ignore',
      () => ['two', 'clouds.csv', '--ignore', 'id'],
      '--ignore: clouds.csv has no column "id"',
    ],
    [
      'no label',
      () => ['two', (table('plain.csv', csv(9, row, ['a', 'b', 'c'])), 'plain.csv')],
      'does not say which column is the label: name it with --label; there is a, b, c',
    ],
    [
      'too many columns',
      () => [
        'two',
        (table(
          'wide.csv',
          csv(9, i => [i, i, i, i % 2], ['a', 'b', 'c', 'label']),
        ),
        'wide.csv'),
      ],
      'the model takes 2 numbers for an example, and wide.csv has 3 columns besides the label (a, b, c): leave',
    ],
    [
      'too few columns',
      () => [
        'two',
        (table(
          'thin.csv',
          csv(9, i => [i, i % 2], ['a', 'label']),
        ),
        'thin.csv'),
      ],
      'has 1 column besides the label (a): more columns are needed',
    ],
    [
      'ragged rows',
      () => ['two', (table('ragged.csv', 'a,b,label\n1,2,x\n1,2\n'), 'ragged.csv')],
      'line 3 has 2 cells',
    ],
    [
      'a missing label',
      () => [
        'two',
        (table(
          'gap.csv',
          csv(9, i => [i, i, i < 7 ? row(i)[2]! : '']),
        ),
        'gap.csv'),
      ],
      'the label "label" is missing in line 9 of gap.csv and 1 more',
    ],
    [
      'empty cells',
      () => [
        'two',
        (table(
          'empty.csv',
          csv(9, i => [i, i > 6 ? ' ' : i, row(i)[2]!]),
        ),
        'empty.csv'),
      ],
      '"b" is empty in line 9 and 1 more: fill it, or leave such rows out with --drop-empty',
    ],
    [
      'nothing but empty cells',
      () => [
        'two',
        (table(
          'none.csv',
          csv(9, i => [i, '', row(i)[2]!]),
        ),
        'none.csv'),
        '--drop-empty',
      ],
      'every row of none.csv has an empty cell',
    ],
    [
      'text among the numbers',
      () => [
        'two',
        (table(
          'text.csv',
          csv(9, i => [i, i === 3 ? 'far' : i, row(i)[2]!]),
        ),
        'text.csv'),
      ],
      '"b" is no number in line 5 ("far"): leave it out with --ignore b',
    ],
    ['no rows', () => ['two', (table('bare.csv', 'a,b,label\n'), 'bare.csv')], 'no rows'],
    [
      'one class only',
      () => [
        'two',
        (table(
          'same.csv',
          csv(9, i => [i, i, 'x']),
        ),
        'same.csv'),
      ],
      'every label is "x": at least two classes are needed',
    ],
    [
      'other classes than the model has',
      () => ['three', 'clouds.csv'],
      'the model gives 3 softmax numbers, and the labels are 2 classes (no, yes): --new-head makes a new last layer',
    ],
    [
      'more classes than the model has',
      () => [
        'sure',
        (table(
          'abc.csv',
          csv(9, i => [i, i, 'abc'[i % 3]!]),
        ),
        'abc.csv'),
      ],
      'the model gives 1 sigmoid number for 2 classes, and the labels are 3 classes',
    ],
    [
      'numbers for a classifier',
      () => [
        'two',
        (table(
          'prices.csv',
          csv(60, i => [i, i, i * 1.5]),
        ),
        'prices.csv'),
      ],
      'has 60 different values in 60 examples: these are no classes',
    ],
    [
      'text for a model of numbers',
      () => ['one', 'clouds.csv'],
      'the label "label" is text ("no" in line 2 of clouds.csv): for classes add --new-head',
    ],
    [
      'several labels at once',
      () => ['many', 'clouds.csv'],
      'the model gives 3 sigmoid numbers (several labels at once)',
    ],
    [
      'more label columns than outputs',
      () => [
        'one',
        (table(
          'both.csv',
          csv(9, i => [i, i, i, i], ['a', 'b', 'y', 'z']),
        ),
        'both.csv'),
        '--label',
        'y,z',
      ],
      'the model gives 1 linear number, and the labels are 2 columns of numbers',
    ],
    [
      'columns that are not one-hot',
      () => [
        'two',
        (table(
          'hot.csv',
          csv(9, i => [i, i, 1, i % 2], ['a', 'b', 'y', 'z']),
        ),
        'hot.csv'),
        '--label',
        'y,z',
      ],
      'the label columns y, z are not a single 1 among zeros in line 3 of hot.csv',
    ],
    [
      'a model without a head',
      () => ['headless', 'photos'],
      /no usable head: it ends in \w+ \(Conv2D\), which gives 4 x 4 x 4 numbers/,
    ],
    [
      'a model whose end is no head',
      () => ['flat', 'clouds.csv'],
      /no usable head: it ends in \w+ \(Dropout\).*: --new-head puts one/,
    ],
    [
      'images for a table',
      () => ['two', 'photos'],
      'the model takes 2 numbers for an example, and not images',
    ],
    [
      'a table for images',
      () => ['image', 'clouds.csv'],
      'the model takes 6 x 6 x 1 numbers for an example, and clouds.csv has 2 columns',
    ],
    [
      'images of another size',
      () => {
        write(
          at('large/a/1.png'),
          grey(9, 7, () => 1),
        );
        write(
          at('large/b/2.png'),
          grey(9, 7, () => 1),
        );
        return ['image', 'large'];
      },
      /1\.png is 9 x 7 pixels, and the model takes 6 x 6: add --resize/,
    ],
    [
      'a damaged image',
      () => {
        write(at('broken/a/1.png'), grey(6, 6, () => 1).subarray(0, 60));
        return ['image', 'broken'];
      },
      /1\.png ends in the middle: the file is damaged$/,
    ],
    [
      'an empty image',
      () => {
        write(at('void/a/1.png'), '');
        return ['image', 'void'];
      },
      /1\.png is empty, 0 bytes$/,
    ],
    [
      'a link to no image',
      () => {
        write(
          at('loose-end/b/2.png'),
          grey(6, 6, () => 1),
        );
        write(
          at('loose-end/a/2.png'),
          grey(6, 6, () => 1),
        );
        symlinkSync(at('nowhere.png'), at('loose-end/a/1.png'));
        return ['image', 'loose-end'];
      },
      /loose-end\/a\/1\.png is a link to a file that is not there$/,
    ],
    [
      'a transparent image',
      () => {
        const row = () => Array.from({length: 6}, () => [9, 0]).flat();
        write(at('clear/a/1.png'), png({width: 6, height: 6, colour: 4, row}));
        return ['image', 'clear'];
      },
      /1\.png is transparent in places: .*; the model takes images of 6 x 6 pixels, grey$/,
    ],
    [
      'decimal commas',
      () => ['two', (table('comma.csv', 'a;b;label\n0,5;0,644;x\n0,6;1,25;y\n'), 'comma.csv')],
      'comma.csv: "a" is no number in line 2 ("0,5"): it has a decimal comma, and numbers are read with a point: 0.5',
    ],
    [
      'decimal commas of the label',
      () => ['one', (table('commas.csv', 'a;b;label\n5;6;-1,5\n6;7;2,5\n'), 'commas.csv')],
      'the label "label" is no number in line 2 of commas.csv ("-1,5"): it has a decimal comma, and numbers are read with a point: -1.5',
    ],
    [
      'decimal commas between commas',
      () => ['two', (table('more-commas.csv', 'a,b,label\n0,644,0,5,x\n'), 'more-commas.csv')],
      'line 2 has 5 cells, and the first line 3 (if these are decimal commas, write points: 0.644)',
    ],
    [
      'an image of another kind',
      () => {
        write(at('moving/a/1.jpg'), 'GIF89a');
        return ['image', 'moving'];
      },
      /1\.jpg is a GIF image: save it as PNG or JPEG$/,
    ],
    [
      'one folder of images only',
      () => {
        for (const name of ['1.png', '2.png'])
          write(
            at('lonely/a', name),
            grey(6, 6, () => 1),
          );
        return ['image', 'lonely'];
      },
      'every label is "a": at least two classes are needed',
    ],
    [
      'a number that is always the same',
      () => [
        'one',
        (table(
          'always.csv',
          csv(20, i => [i, -i, 5]),
        ),
        'always.csv'),
      ],
      'the label "label" is 5 in every example: there is nothing to learn from it',
    ],
    [
      'columns that are always the same',
      () => [
        'pair',
        (table(
          'still.csv',
          csv(20, i => [i, -i, 5, 6], ['a', 'b', 'y', 'z']),
        ),
        'still.csv'),
        '--label',
        'y,z',
      ],
      'the labels y, z are the same in every example (5, 6): there is nothing to learn from them',
    ],
    [
      'columns for classes of which one is never there',
      () => [
        'two',
        (table(
          'cold.csv',
          csv(20, i => [i, -i, 0, 1], ['a', 'b', 'y', 'z']),
        ),
        'cold.csv'),
        '--label',
        'y,z',
      ],
      'every example is of the class "z": at least two are needed',
    ],
    [
      'text without a vocabulary',
      () => [
        'words',
        (table(
          'films.csv',
          csv(8, i => [i % 2 ? 'good film' : 'bad', i % 2], ['text', 'label']),
        ),
        'films.csv'),
      ],
      'the column "text" is text and the model takes numbers of tokens: put its vocabulary beside',
    ],
    [
      'tokens that the model does not know',
      () => [
        'words',
        (table(
          'ids.csv',
          csv(8, i => [1, 2, i, i % 2], ['t', 'u', 'v', 'label']),
        ),
        'ids.csv'),
      ],
      'the model takes whole numbers from 0 to 5, and "v" is 6 in line 8 of ids.csv',
    ],
    [
      'too few examples',
      () => ['two', (table('few.csv', 'a,b,label\n1,2,x\n3,4,y\n'), 'few.csv')],
      '2 examples are too few to set some aside',
    ],
    [
      'a test of other classes',
      () => [
        'two',
        'clouds.csv',
        '--test',
        (table(
          'other.csv',
          csv(4, i => [i, i, 'perhaps']),
        ),
        at('other.csv')),
      ],
      'the label "perhaps" in line 2 of other.csv is none of the classes: no, yes',
    ],
    [
      'a test of other columns',
      () => [
        'two',
        'clouds.csv',
        '--test',
        (table(
          'turned.csv',
          csv(4, i => [i, i, 'yes'], ['b', 'a', 'label']),
        ),
        at('turned.csv')),
      ],
      'has other inputs than',
    ],
    [
      'a pattern that names nothing',
      () => ['two', 'clouds.csv', '--targets', 'attention'],
      '--targets attention names no matrix besides the head; there is dense_Dense',
    ],
    [
      'a task that the head decides',
      () => ['two', 'clouds.csv', '--task', 'numbers'],
      '--task goes with --new-head',
    ],
    [
      'numbers that are text',
      () => ['two', 'clouds.csv', '--new-head', '--task', 'numbers'],
      'the labels are not all numbers',
    ],
    [
      'labels of classes as numbers',
      () => ['two', 'clouds.csv', '--standardise-labels'],
      '--standardise-labels goes with labels that are numbers',
    ],
    [
      'a column option for images',
      () => ['image', 'photos', '--standardise'],
      'go with columns, and the data is images',
    ],
    ['a run that is not there', () => ['two', 'clouds.csv', '--resume'], '--resume: no checkpoints in'],
    [
      'an unknown head',
      () => ['two', 'clouds.csv', '--head', 'big'],
      '--head takes full, lora, freeze, got "big"',
    ],
    [
      'a share above one',
      () => ['two', 'clouds.csv', '--split', '1.5'],
      '--split takes a share above 0 and below 1',
    ],
  ];

  test.each(mistakes)('%s', async (_, make, message) => {
    const [model, data, ...args] = make();
    const before = readdirSync(folder).sort();
    expect(await finetune(model, data, 'wrong', ...args)).toBe(2);
    expect(said.length).toBe(1);
    expect(said[0]).toMatch(/^tfjs-lora: [^\n]+$/);
    expect(said[0]).toMatch(message);
    expect(existsSync(at('wrong'))).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  test('a place for the run that is a file, or that of the model or the data', async () => {
    const weights = readFileSync(at('two/weights.bin'));
    const out = async (place: string, data = 'clouds.csv') => {
      said.length = 0;
      expect(await finetune(data === 'photos' ? 'image' : 'two', data, place)).toBe(2);
      expect(said.length).toBe(1);
      return said[0];
    };
    const taken = 'that of the model, which stays as it is: give an --out elsewhere';
    expect(await out('two')).toContain(`two, is ${taken}`);
    expect(await out('two/deep/run')).toContain(`deep/run, lies within ${taken}`);
    expect(await out('.')).toContain('is that of the data, which stays as it is');
    symlinkSync(at('.'), at('here'));
    expect(await out('here')).toContain('here, is that of the data, which stays as it is');
    const test = ['--test', write(at('tests/test.csv'), clouds(20))];
    said.length = 0;
    expect(await finetune('two', 'clouds.csv', 'tests', ...test)).toBe(2);
    expect(said).toEqual([expect.stringContaining('tests, is that of the data, which stays as it is')]);
    symlinkSync(at('two'), at('link'));
    expect(await out('link')).toContain(`link, is ${taken}`);
    expect(await out('photos/run', 'photos')).toContain('photos/run, lies within that of the data');
    expect(await out('clouds.csv/run')).toContain(
      `cannot write to ${at('clouds.csv/run')}: ${at('clouds.csv')} is a file, not a folder`,
    );
    expect(readdirSync(at('two')).sort()).toEqual(['model.json', 'weights.bin']);
    expect(readFileSync(at('two/weights.bin'))).toEqual(weights);
    expect(readdirSync(at('photos')).sort()).toEqual(['top', 'under']);
  });

  test('a call without data', async () => {
    expect(await run(['finetune', at('two')])).toBe(2);
    expect(said[0]).toMatch(/finetune takes a model and data/);
  });
});

/** Accuracy and mean cross-entropy as tfjs itself finds them. */
async function evaluated(model: tf.LayersModel, xs: number[][], ys: number[], loss: string) {
  model.compile({optimizer: 'sgd', loss, metrics: ['accuracy']});
  const result = model.evaluate(tf.tensor2d(xs), tf.tensor1d(ys)) as tf.Scalar[];
  return result.map(scalar => scalar.dataSync()[0]!);
}

const rowsOf = (file: string) =>
  readFileSync(at(file), 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map(line => line.split(','));

test('classes: the loss falls, and the files give what was reported', async () => {
  write(at('more.csv'), clouds(31));
  const before = ['model.json', 'weights.bin'].map(file => readFileSync(at('two', file)));
  expect(
    await finetune('two', 'clouds.csv', 'yes', '--test', at('more.csv'), '--epochs', '20', '--rank', '2'),
  ).toBe(0);
  expect(['model.json', 'weights.bin'].map(file => readFileSync(at('two', file)))).toEqual(before);
  expect(readdirSync(at('yes')).sort()).toEqual([
    'adapter.safetensors',
    'model',
    'report.html',
    'result.json',
  ]);
  expect(readdirSync(at('yes/model')).sort()).toEqual([
    'classes.txt',
    'data.json',
    'model.json',
    'weights.bin',
  ]);
  expect(readFileSync(at('yes/model/classes.txt'), 'utf8')).toBe('no\nyes\n');
  const {loss, heldOut, task, trainSize, steps} = resultOf('yes');
  const [was, is] = [heldOut.before, heldOut.after!] as ClassScores[];
  expect([task, trainSize, heldOut.size, steps]).toEqual([
    {kind: 'classes', classes: ['no', 'yes'], outputs: 'probabilities'},
    80,
    31,
    60,
  ]);
  expect(loss.at(-1)!).toBeLessThan(loss[0]! / 2);
  expect(is!.accuracy).toBeGreaterThan(0.95);
  expect(is!.loss).toBeLessThan(was!.loss / 2);
  expect(is!.confusion.flat().reduce((sum, n) => sum + n, 0)).toBe(31);
  expect(said.join('\n')).toMatch(/Inputs +a, b \(2\), as they are\nLabels +2 classes of label: no, yes\n/);
  expect(readFileSync(at('yes/report.html'), 'utf8')).toMatch(/<td>no<\/td><td>1[0-9]<\/td>/);

  const rows = rowsOf('more.csv');
  const [xs, ys] = [rows.map(row => row.slice(0, 2).map(Number)), rows.map(row => Number(row[2] === 'yes'))];
  const merged = await tf.loadLayersModel(ioHandler(`file://${at('yes/model')}`, 'load'));
  const found = await evaluated(merged, xs, ys, 'sparseCategoricalCrossentropy');
  expect(found[0]).toBeCloseTo(is!.loss, 4);
  expect(found[1]).toBeCloseTo(is!.accuracy, 5);
  const base = await loadModel(at('two'));
  const first = await evaluated(base, xs, ys, 'sparseCategoricalCrossentropy');
  expect(first[0]).toBeCloseTo(was!.loss, 4);
  await mergeAdapter(base, decodeAdapter(readFileSync(at('yes/adapter.safetensors'))));
  const again = await evaluated(base, xs, ys, 'sparseCategoricalCrossentropy');
  expect(again[0]).toBeCloseTo(is!.loss, 4);

  expect(await finetune('two', 'clouds.csv', 'yes')).toBe(2);
  expect(said.at(-1)).toMatch(/yes holds a run already/);
  // The names of the classes travel with the model.
  expect(await finetune('yes/model', 'clouds.csv', 'on', '--steps', '2')).toBe(0);
});

test('two classes of one unit, and logits', async () => {
  expect(await finetune('sure', 'clouds.csv', 'sure-out', '--epochs', '20')).toBe(0);
  const {heldOut, task} = resultOf('sure-out');
  expect(task).toMatchObject({classes: ['no', 'yes'], outputs: 'probability'});
  expect(heldOut.size).toBe(16);
  expect((heldOut.after as ClassScores).accuracy).toBeGreaterThan(0.9);
  expect(heldOut.after!.loss).toBeLessThan(heldOut.before.loss / 2);
  expect(await finetune('pair', 'clouds.csv', 'pair-out', '--epochs', '20')).toBe(0);
  const logits = resultOf('pair-out');
  expect(logits.task).toMatchObject({outputs: 'logits'});
  expect((logits.heldOut.after as ClassScores).accuracy).toBeGreaterThan(0.9);
});

const sloped = (size: number) =>
  csv(size, i => {
    const [a, b] = [500 + 200 * Math.sin(3 * i), Math.cos(5 * i)];
    return [a, b, 80_000 + 90 * a + 3000 * b];
  });

test('numbers: standardised inputs and labels, errors in the units of the labels', async () => {
  write(at('prices.csv'), sloped(100));
  expect(
    await finetune(
      'one',
      'prices.csv',
      'priced',
      '--standardise',
      '--standardise-labels',
      '--epochs',
      '40',
      '--lr',
      '0.02',
    ),
  ).toBe(0);
  const {heldOut, loss} = resultOf('priced');
  const [was, is, mean] = [heldOut.before, heldOut.after!, heldOut.baseline] as NumberScores[];
  expect(loss.at(-1)!).toBeLessThan(loss[0]! / 10);
  expect(is!.rmse).toBeLessThan(mean!.rmse / 5);
  expect(is!.rmse).toBeLessThan(was!.rmse / 5);
  // By hand, as data.json says.
  const {standardise, outputs} = JSON.parse(
    readFileSync(at('priced/model/data.json'), 'utf8'),
  ) as Result['input'];
  const model = await loadModel(at('priced/model'));
  const rows = rowsOf('prices.csv').map(row => row.map(Number));
  const given = rows.map(row =>
    [0, 1].map(k => (row[k]! - standardise!.mean[k]!) / standardise!.deviation[k]!),
  );
  const told = (model.predict(tf.tensor2d(given)) as tf.Tensor).dataSync();
  const errors = rows.map((row, i) => told[i]! * outputs!.deviation[0]! + outputs!.mean[0]! - row[2]!);
  const rmse = Math.sqrt(errors.reduce((sum, error) => sum + error ** 2, 0) / errors.length);
  // Of all the rows: most were trained on.
  expect(rmse).toBeGreaterThan(is!.rmse / 3);
  expect(rmse).toBeLessThan(is!.rmse * 3);
  expect(readFileSync(at('priced/report.html'), 'utf8')).toMatch(
    /mean squared error, training.*Losses above [\d.]+ are drawn there\. These are errors of the standardised labels/s,
  );
});

test('numbers that the head has never seen are warned of; several at once', async () => {
  write(at('prices.csv'), sloped(100));
  expect(await finetune('one', 'prices.csv', 'far', '--steps', '1')).toBe(0);
  const lines = said.join('\n');
  expect(lines).toMatch(
    /^Warning   the labels go from [\d,]+ to [\d,]+, and the model gives .* add --standardise-labels/m,
  );
  // In one column with the lines above and below.
  expect(lines).toMatch(/^Held out  20 examples/m);
  expect(lines).toMatch(/^Wrote     adapter.safetensors/m);
  // While there is still time to stop.
  expect(lines.indexOf('--standardise-labels')).toBeLessThan(lines.indexOf('step 1/1'));
  expect(lines).toMatch(/Note +always giving the mean is as good or better/);
  expect(readFileSync(at('far/report.html'), 'utf8')).toMatch(
    /<dt>Warning<\/dt><dd>the labels go from .*<dt>Note</s,
  );
  write(
    at('both.csv'),
    csv(60, i => [Math.sin(i), Math.cos(i), Math.sin(i), 1 + Math.cos(i)], ['a', 'b', 'y', 'z']),
  );
  expect(
    await finetune('pair', 'both.csv', 'pairs', '--label', 'y,z', '--epochs', '60', '--lr', '0.02'),
  ).toBe(0);
  const {task, heldOut} = resultOf('pairs');
  expect(task).toEqual({kind: 'numbers', names: ['y', 'z']});
  expect((heldOut.after as NumberScores).rmse).toBeLessThan((heldOut.baseline as NumberScores).rmse / 2);
});

test('images: the statistics of batch norm stay, unless they are to move', async () => {
  const statistics = async (path: string) => {
    const model = await loadModel(path);
    return model.weights.filter(({name}) => /moving/.test(name)).map(weight => [...weight.read().dataSync()]);
  };
  expect(await finetune('image', 'photos', 'seen', '--epochs', '15', '--batch', '8')).toBe(0);
  const {heldOut, input} = resultOf('seen');
  expect((heldOut.after as ClassScores).accuracy).toBe(1);
  expect(heldOut.after!.loss).toBeLessThan(heldOut.before.loss);
  expect(input).toMatchObject({columns: null, shape: [6, 6, 1], scale: {range: '0..1'}});
  expect(await statistics(at('seen/model'))).toEqual(await statistics(at('image')));
  expect(await finetune('image', 'photos', 'moved', '--steps', '2', '--batch-norm', 'train')).toBe(0);
  expect(await statistics(at('moved/model'))).not.toEqual(await statistics(at('image')));
  expect(said.join('\n')).toContain('the statistics of batch norm have moved');
});

test('a new head, resized images, another range', async () => {
  for (let i = 0; i < 12; i++)
    write(
      at('three-kinds', 'abc'[i % 3]!, `${i}.png`),
      grey(12, 9, x => (x % 3 === i % 3 ? 250 : 5)),
    );
  const args = ['--new-head', '--resize', '--scale', '-1..1', '--steps', '4', '--split', '0.3'];
  expect(await finetune('image', 'three-kinds', 'kinds', ...args)).toBe(0);
  const {task, heldOut} = resultOf('kinds');
  expect(task).toMatchObject({classes: ['a', 'b', 'c']});
  expect(heldOut.size).toBe(3);
  const model = await loadModel(at('kinds/model'));
  expect(model.outputs[0]!.shape).toEqual([null, 3]);
  expect(await finetune('flat', 'clouds.csv', 'headed', '--new-head', '--epochs', '20')).toBe(0);
  expect((resultOf('headed').heldOut.after as ClassScores).accuracy).toBeGreaterThan(0.9);
  write(at('prices.csv'), sloped(40));
  expect(
    await finetune('two', 'prices.csv', 'numbers', '--new-head', '--task', 'numbers', '--steps', '1'),
  ).toBe(0);
  expect(resultOf('numbers').task).toEqual({kind: 'numbers', names: ['label']});
});

test('text through the vocabulary beside the model', async () => {
  write(
    at('films.csv'),
    csv(40, i => [i % 2 ? 'a good film' : 'bad film', i % 2], ['text', 'label']),
  );
  for (const file of ['model.json', 'weights.bin']) write(at('known', file), readFileSync(at('words', file)));
  write(at('known/vocabulary.txt'), '[PAD]\n[UNK]\ngood\nbad\nfilm\n');
  expect(await finetune('known', 'films.csv', 'told', '--epochs', '20')).toBe(0);
  expect((resultOf('told').heldOut.after as ClassScores).accuracy).toBe(1);
});

test('JSON lines, one-hot columns, other methods, a frozen head', async () => {
  const line = (i: number) => JSON.stringify({x: [i % 2 ? 1 : -1, Math.sin(i)], no: i % 2, yes: 1 - (i % 2)});
  write(at('hot.jsonl'), Array.from({length: 40}, (_, i) => line(i)).join('\n'));
  const hot = ['--label', 'no,yes', '--epochs', '10'];
  expect(await finetune('two', 'hot.jsonl', 'hot', ...hot, '--method', 'dora', '--head', 'lora')).toBe(0);
  expect(resultOf('hot').task).toMatchObject({classes: ['no', 'yes']});
  expect(await finetune('two', 'hot.jsonl', 'fa', ...hot, '--method', 'lora-fa', '--head', 'freeze')).toBe(0);
  const {weights} = decodeAdapter(readFileSync(at('fa/adapter.safetensors')));
  expect(weights.map(({path}) => path).some(path => path.includes('bias'))).toBe(false);
  // A method that renews its subspace has no adapter, and the model.
  expect(await finetune('two', 'hot.jsonl', 'new', ...hot, '--method', 'galore', '--rank', '1')).toBe(0);
  expect(readdirSync(at('new')).sort()).toEqual(['model', 'report.html', 'result.json']);
});

test('a run that was stopped goes on as if it had not been', async () => {
  const args = ['--steps', '8', '--checkpoint-every', '3'];
  expect(await finetune('two', 'clouds.csv', 'whole', ...args)).toBe(0);
  vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
  const stop = setInterval(() => {
    if (!existsSync(at('parts/checkpoints/000001-step-3/model.json'))) return;
    clearInterval(stop);
    process.emit('SIGTERM');
  }, 1);
  const ended = await finetune('two', 'clouds.csv', 'parts', ...args);
  clearInterval(stop);
  expect([0, 143]).toContain(ended);
  if (ended === 143) expect(said.join('\n')).toMatch(/Stopped after step \d of 8/);
  expect(await finetune('two', 'clouds.csv', 'parts', ...args, '--resume')).toBe(0);
  expect(said.join('\n')).toMatch(/Going on after step [36]/);
  expect(resultOf('parts').loss).toEqual(resultOf('whole').loss);
  expect(readFileSync(at('parts/model/weights.bin'))).toEqual(readFileSync(at('whole/model/weights.bin')));
  expect(await finetune('two', 'clouds.csv', 'parts', '--steps', '9', '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(
    /--resume: the number of steps .* was 8 when the run began, and is 9 now: go on/,
  );
});

test('a signal keeps what was learned', async () => {
  vi.spyOn(console, 'log').mockImplementation(line => {
    said.push(String(line));
    if (String(line).includes('Measuring the model after')) process.emit('SIGINT');
  });
  expect(await finetune('two', 'clouds.csv', 'late', '--steps', '2')).toBe(130);
  expect(said.join('\n')).toMatch(/Stopped after step 2 of 2. What was learned until then is in .*late/);
  expect(resultOf('late').heldOut.after).toBeNull();
  expect(existsSync(at('late/model/model.json'))).toBe(true);
});

test('a training that diverges says so', async () => {
  expect(await finetune('one', 'prices.csv', 'wild', '--inner', 'sgd', '--lr', '1e30', '--steps', '6')).toBe(
    1,
  );
  expect(said.join('\n')).toMatch(/the training diverged.*: lower --lr/);
});

test('layers that were saved frozen are trained, and that is said', async () => {
  const layers = [
    tf.layers.dense({units: 6, inputShape: [2], activation: 'tanh', trainable: false, name: 'below'}),
    tf.layers.dense({units: 2, activation: 'softmax', trainable: false, name: 'above'}),
  ];
  await modelIn(at('frozen'), layers);
  expect(await finetune('frozen', 'clouds.csv', 'thawed', '--rank', '1', '--steps', '3')).toBe(0);
  expect(said.join('\n')).toMatch(/Unfrozen +below, above: saved as not trainable/);
  // LoRA of rank 1 on 2 x 6, and the head as it is.
  expect(resultOf('thawed').parameters.trained).toBe(2 + 6 + 6 * 2 + 2);
  expect(readFileSync(at('thawed/model/weights.bin'))).not.toEqual(readFileSync(at('frozen/weights.bin')));
  said.length = 0;
  const inner = tf.layers.dense({units: 6, inputShape: [2], trainable: false, name: 'inner'});
  await modelIn(at('based'), [
    tf.sequential({layers: [inner]}),
    tf.layers.dense({units: 2, activation: 'softmax'}),
  ]);
  expect(await finetune('based', 'clouds.csv', 'risen', '--rank', '1', '--steps', '3')).toBe(0);
  expect(said.join('\n')).toMatch(/Unfrozen +inner: saved/);
  expect(resultOf('risen').parameters.trained).toBe(2 + 6 + 6 * 2 + 2);
  const base = tf.sequential({name: 'base', layers: [tf.layers.dense({units: 6, inputShape: [2]})]});
  const model = tf.sequential({layers: [base, tf.layers.dense({units: 2})]});
  base.trainable = false;
  expect(model.trainableWeights.length).toBe(2);
  expect(unfreeze(model)).toEqual(['base']);
  expect(model.trainableWeights.length).toBe(4);
  expect(unfreeze(model)).toEqual([]);
  model.dispose();
});

test('inputs out of all range are told before the training', async () => {
  const steep = tf.layers.dense({
    units: 2,
    inputShape: [2],
    kernelInitializer: tf.initializers.constant({value: 1e30}),
  });
  await modelIn(at('steep'), [steep, tf.layers.softmax()]);
  write(
    at('vast.csv'),
    csv(40, i => [`${i + 1}e20`, `-${i}e21`, i % 2]),
  );
  expect(await finetune('steep', 'vast.csv', 'vast')).toBe(2);
  expect(said.at(-1)).toMatch(
    /gives NaN or infinite numbers for this data before any training: .*--standardise/,
  );
  expect(existsSync(at('vast'))).toBe(false);
});

test('a text of which most words are unknown is noted, with their share', async () => {
  for (const file of ['model.json', 'weights.bin']) write(at('some', file), readFileSync(at('words', file)));
  write(at('some/vocabulary.txt'), '\ufeff[PAD]\n[UNK]\ngood\nbad\nfilm\n');
  write(
    at('some.csv'),
    csv(40, i => [i % 2 ? 'un bon good' : 'mal tu bad', i % 2], ['text', 'label']),
  );
  expect(await finetune('some', 'some.csv', 'few', '--steps', '2')).toBe(0);
  expect(said.join('\n')).toMatch(/Note +66.7 % of the words of the text are not in .*vocabulary.txt/);
  said.length = 0;
  write(
    at('half.csv'),
    csv(40, i => [i % 2 ? 'bon good' : 'mal bad', i % 2], ['text', 'label']),
  );
  expect(await finetune('some', 'half.csv', 'half', '--steps', '2')).toBe(0);
  expect(said.join('\n')).not.toMatch(/of the words/);
});

test('byte order marks and CRLF in the files beside a model', async () => {
  write(at('marked/model.json'), '\ufeff' + readFileSync(at('two/model.json'), 'utf8'));
  write(at('marked/weights.bin'), readFileSync(at('two/weights.bin')));
  write(at('marked/classes.txt'), '\ufeffyes\r\nno\r\n');
  expect(await finetune('marked', 'clouds.csv', 'unmarked', '--steps', '2')).toBe(0);
  expect(resultOf('unmarked').task).toMatchObject({classes: ['yes', 'no']});
});

test('names with line ends are shown escaped, and a missing classes.txt is said', async () => {
  write(
    at('lines.csv'),
    csv(40, i => [Math.sin(i), i % 3, i % 2 ? '"a\nb"' : 'c'], ['"x\ny"', 'z', 'label']),
  );
  expect(await finetune('two', 'lines.csv', 'lines', '--steps', '2')).toBe(0);
  const text = said.join('\n');
  expect(text).toMatch(/Inputs +x\\ny, z/);
  expect(text).toMatch(/Labels +2 classes of label: a\\nb, c/);
  expect(text).toMatch(/Note +class names have line ends: there is no classes.txt, and result.json has them/);
  expect(existsSync(at('lines/model/classes.txt'))).toBe(false);
  expect(resultOf('lines').task).toMatchObject({classes: ['a\nb', 'c']});
});

test('few examples held out are warned of', async () => {
  write(at('prices.csv'), sloped(40));
  expect(await finetune('one', 'prices.csv', 'rough', '--steps', '1', '--split', '0.001')).toBe(0);
  const text = said.join('\n');
  expect(text).toMatch(/^Held out +1 example: 2\.5 % drawn by seed 0$/m);
  expect(text).toMatch(/^Warning +only 1 example is held out, which measures the model only roughly/m);
  expect(await finetune('two', 'clouds.csv', 'rougher', '--steps', '1')).toBe(0);
  expect(said.slice(-9).join()).not.toMatch(/only roughly/);
});

test('a run that is resumed writes over no model', async () => {
  const args = ['--steps', '2', '--checkpoint-every', '1'];
  expect(await finetune('two', 'clouds.csv', 'again', ...args)).toBe(0);
  const weights = readFileSync(at('again/model/weights.bin'));
  expect(await finetune('again/model', 'clouds.csv', 'again', ...args, '--resume')).toBe(2);
  expect(said.at(-1)).toMatch(/the run would write over the model: .*again\/model: give an --out elsewhere/);
  expect(readFileSync(at('again/model/weights.bin'))).toEqual(weights);
});

test('a label that a head cannot give is warned of, and one column of several that never changes', async () => {
  await dense(at('bounded'), 2, 1, 'tanh');
  write(
    at('beyond.csv'),
    csv(40, i => [Math.sin(i), Math.cos(i), i % 4 === 0 ? 3 : 0.5]),
  );
  expect(await finetune('bounded', 'beyond.csv', 'capped', '--steps', '1')).toBe(0);
  const text = said.join('\n');
  expect(text).toMatch(/^Head +\S+, 1 output \(tanh: numbers from -1 to 1\), trained as it is$/m);
  expect(text).toMatch(
    /^Warning +the head ends in tanh, which gives numbers from -1 to 1, and \d of 32 labels \(0\.5 to 3\) are out of its/m,
  );
  write(
    at('half-still.csv'),
    csv(40, i => [i, -i, Math.sin(i), 6], ['a', 'b', 'y', 'z']),
  );
  expect(await finetune('pair', 'half-still.csv', 'stiff', '--label', 'y,z', '--steps', '1')).toBe(0);
  expect(said.join('\n')).toMatch(/^Note +the label "z" is the same in every example$/m);
});

test('what tfjs warns of while it loads a model is said as a note', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  await modelIn(at('loose'), [
    tf.layers.dense({units: 6, inputShape: [2]}),
    tf.layers.dense({units: 2, inputShape: [5], activation: 'softmax', name: 'second'}),
  ]);
  warn.mockClear();
  expect(await finetune('loose', 'clouds.csv', 'tight', '--steps', '1')).toBe(0);
  expect(warn).not.toHaveBeenCalled();
  expect(said.join('\n')).toMatch(
    /^Note +tfjs says of the model: The shape of the input tensor .* layer second/m,
  );
});

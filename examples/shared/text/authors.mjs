// What the character model knows and what it is to learn: two authors from files, or two made-up languages.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {count, percent, say} from '../format.mjs';
import {random} from '../random.mjs';
import {characterModel, loadWeights, nats} from './char-model.mjs';
import {train} from './char-training.mjs';
import {countOutside, encode, readCharacters} from './characters.mjs';
import {toyLanguages} from './toys.mjs';

/**
 * @typedef {object} Task
 * @property {import('@tensorflow/tfjs').Sequential} model as it was trained before
 * @property {string[]} characters in the order of the model's rows
 * @property {number} units of each LSTM
 * @property {number} time characters in a piece of a batch
 * @property {string} beginning what the model goes on writing
 * @property {object} check what the model makes of the first characters, where it came from files
 * @property {{name: string, test: Int32Array}} base
 * @property {{name: string, notes: string[], train: Int32Array, validation: Int32Array, test: Int32Array}} target
 */

/** ml5's model of Shakespeare, and Charlotte Brontë's prose. @returns {Promise<Task>} */
export async function shakespeareToBronte(data) {
  const weights = join(data, 'weights-charrnn-shakespeare');
  const characters = readCharacters(weights);
  const model = characterModel({characters: characters.length, units: 128});
  loadWeights(model, weights);
  const shakespeare = readFileSync(join(data, 'tinyshakespeare', 'input.txt'), 'utf8');
  const bronte = readFileSync(join(data, 'charlotte-bronte', 'bronte.txt'), 'utf8');
  const first = [shakespeare, bronte].map(text => encode(text.slice(0, 7000), characters).subarray(0, 6000));
  const check = {
    firstCharacters: 6000,
    base: await nats(model, first[0], 1),
    target: await nats(model, first[1], 1),
  };
  say(
    'Loaded',
    `the first 6,000 characters: Shakespeare ${check.base.toFixed(2)}, Brontë ${check.target.toFixed(2)} nats each`,
  );
  const outside = countOutside(bronte, characters);
  const notes = [
    `${count(outside)} of Brontë's ${count(bronte.length)} characters (${percent(outside / bronte.length)}) are not ` +
      `among the model's 65: quotation marks become ', brackets a comma, digits 3, accents go, _ and * are left out`,
    'the part of Shakespeare that is measured is not new to the model: what counts is how much of it is lost',
  ];
  return {
    ...{model, characters, check, units: 128, time: 64, beginning: 'I thought '},
    base: {name: 'Shakespeare', test: split(encode(shakespeare, characters), 16_000).test},
    target: {name: 'Brontë', notes, ...split(encode(bronte, characters), 16_000)},
  };
}

/** A model of one made-up language, trained here in full by tfjs's own Adam, and another. @returns {Promise<Task>} */
export async function madeUpLanguages(seed) {
  const texts = toyLanguages(random(seed));
  const characters = [...new Set(texts.base + texts.target)].sort();
  const [base, target] = [texts.base, texts.target].map(text => split(encode(text, characters), 800));
  const model = characterModel({characters: characters.length, units: 32, seed});
  const task = {model, characters, units: 32, time: 12, beginning: 'a cat ', check: null};
  const known = {...task, base: {name: 'Sentences', ...base}};
  const optimizer = tf.train.adam(0.02, 0.9, 0.99, 1e-7);
  await train({...known, target: base}, optimizer, {batch: 16, steps: 80, seed, label: 'Before: '});
  optimizer.dispose();
  return {...known, target: {name: 'Questions', notes: [], ...target}};
}

/** Nine tenths to learn, a twentieth to choose by and a twentieth to measure, of which `most` characters are used. */
function split(codes, most) {
  const [learn, choose] = [Math.floor(0.9 * codes.length), Math.floor(0.95 * codes.length)];
  return {
    train: codes.subarray(0, learn),
    validation: codes.subarray(learn, Math.min(choose, learn + most)),
    test: codes.subarray(choose, choose + most),
  };
}

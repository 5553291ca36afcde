// What the classifier of sentences knows and what it is to learn, from files or made up, without a sentence twice.
import {join} from 'node:path';
import {random, shuffle} from '../random.mjs';
import {banking77, rtPolarity, snips, uciReviews} from './sentences.mjs';
import {toyIntents} from './toys.mjs';

const readers = {
  banking77: data => banking77(join(data, 'banking77')),
  snips: data => snips(join(data, 'snips-intents')),
  'rt-polarity': data => ({train: rtPolarity(join(data, 'rt-polarity'))}),
  'UCI reviews': data => ({train: uciReviews(join(data, 'uci-sentiment-sentences'))}),
};

/**
 * Each task: what the model knows beforehand (`base`), what it learns (`target`), the folders that hold them, and the
 * steps; `few`: sentences of each label to learn from.
 */
export const tasks = {
  banking77: {
    ...{base: 'snips', target: 'banking77', needs: ['snips-intents', 'banking77'], steps: 600},
    title: 'From seven intents to 77 concerns of a bank',
  },
  snips: {
    ...{base: 'banking77', target: 'snips', needs: ['banking77', 'snips-intents'], steps: 150, few: 20},
    title: 'From 77 concerns of a bank to seven intents, twenty sentences each',
  },
  'rt-polarity': {
    ...{base: 'rt-polarity', target: 'UCI reviews', steps: 200},
    needs: ['rt-polarity', 'uci-sentiment-sentences'],
    title: 'From film reviews to reviews of phones, films and restaurants',
  },
};

/** The sentences of a task in files. */
export function readTask({base, target, few}, data, most = few) {
  const [known, learned] = [base, target].map(name => ({name, ...readers[name](data)}));
  return prepare(known, learned, most);
}

/** Made-up sentences: the model knows three topics and learns six intents. */
export function madeUpTask(seed, most) {
  const next = random(seed);
  const {base, target} = toyIntents(next);
  return prepare({name: 'topics', train: base}, {name: 'intents', train: target}, most);
}

/**
 * No sentence twice, none of the test part to learn from. Without a test part of their own: a fifth of the sentences;
 * a tenth of what is left is the validation part. What the target holds out the base does not learn either.
 */
function prepare(base, target, most = 0) {
  const key = ({text}) => text.toLowerCase();
  const part = ({name, train, test}, {avoid = [], most = 0}) => {
    const seen = new Set([...avoid, ...(test ?? [])].map(key));
    const all = shuffle([...train], random(7)).filter(
      sentence => !seen.has(key(sentence)) && seen.add(key(sentence)),
    );
    const held = test ?? all.splice(0, Math.floor(all.length / 5));
    const validation = all.splice(0, Math.floor(all.length / 10));
    const labels = [...new Set(all.map(({label}) => label))].sort();
    const taken = new Map();
    const learn = all.filter(({label}) => {
      taken.set(label, (taken.get(label) ?? 0) + 1);
      return most === 0 || taken.get(label) <= most;
    });
    return {name, labels, train: learn, validation: validation.slice(0, 1000), test: held};
  };
  const learned = part(target, {most});
  return {base: part(base, {avoid: [...learned.test, ...learned.validation]}), target: learned};
}

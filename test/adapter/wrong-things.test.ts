import * as tf from '@tensorflow/tfjs';
import {beforeAll, describe, expect, test} from 'vitest';
import * as library from '../../src/adapter/index.js';
import {encodeSafetensors, extractAdapter, snapshot, toPeft} from '../../src/adapter/index.js';
import {lora, loraAdam} from '../../src/index.js';
import {numTensors} from '../helpers.js';
import {learned, mlp, numbers, train} from './models.js';
import {adapterWith, weightOf} from './situations.js';

beforeAll(() => tf.setBackend('cpu'));

/** What people hand over by mistake. */
async function things() {
  const model = mlp();
  const {adapter} = await learned(model);
  const start = await snapshot(model);
  const optimizer = train(model, undefined, {}, 4, 2);
  const factored = adapterWith(weightOf(lora({rank: 2}), [6, 4], 'a/kernel'));
  return {
    undefined: undefined,
    null: null,
    'a number': 7,
    'a string': 'french',
    'a Promise': Promise.resolve(adapter),
    'a model': model,
    'the weights of a model': model.weights,
    'a list of nothing': [undefined],
    'an adapter': adapter,
    'an optimizer': optimizer,
    'an optimizer of tfjs': tf.train.sgd(0.1),
    'a tensor': tf.zeros([2]),
    'a list of tensors': [tf.zeros([2])],
    'a variable': tf.variable(tf.zeros([2])),
    'an ArrayBuffer': new ArrayBuffer(8),
    'no safetensors': new Uint8Array(8),
    'files of PEFT': toPeft(factored),
    'what extractAdapter gives': await extractAdapter(model, start, {rank: 1}),
    'a handler': {load: () => Promise.reject(new Error('handler: nothing is there'))},
    'a function': () => {},
    'an object': {model},
    'an empty object': {},
  };
}
type Things = Awaited<ReturnType<typeof things>>;
type Name = keyof Things;

interface Row {
  readonly call: (thing: never, rest: Things) => unknown;
  /** What may be given there, or is an error of another kind that says what it is about. */
  readonly takes: readonly Name[];
}

const BYTES: Name[] = [];
const ADAPTER: Name[] = ['an adapter'];
const MODEL: Name[] = ['a model'];
const SOURCE: Name[] = ['a handler'];
const options = {rank: 1};
const every = {every: {steps: 1}};

/** Every function of the entry, and every place of its arguments. */
const rows: Record<string, Row> = {
  'adapterOf: optimizer': {
    call: thing => library.adapterOf(thing),
    takes: ['an optimizer'],
  },
  'adapterOf: model': {
    call: (thing, all) => library.adapterOf(all['an optimizer'], thing),
    takes: ['undefined', ...MODEL],
  },
  'AdapterSet: model': {
    call: thing => new library.AdapterSet(thing),
    takes: [...MODEL, 'an object', 'an empty object'],
  },
  'AdapterSet: add': {
    call: async (thing, all) => {
      const set = new library.AdapterSet(all['a model'], {base: 'ignore'});
      await set.add('x', thing);
      set.dispose();
    },
    takes: ADAPTER,
  },
  'combine: parts': {call: thing => library.combine(thing), takes: []},
  'combine: adapter': {call: thing => library.combine([{adapter: thing, weight: 1}]), takes: ADAPTER},
  'extractAdapter: model': {
    call: (thing, all) => library.extractAdapter(thing, all['an optimizer'] as never, options),
    takes: MODEL,
  },
  'extractAdapter: start': {
    call: (thing, all) => library.extractAdapter(all['a model'], thing, options),
    takes: ['an optimizer'],
  },
  'snapshot: model': {call: thing => library.snapshot(thing), takes: [...MODEL, 'an empty object']},
  'nodeFiles: folder': {call: thing => library.nodeFiles(thing), takes: ['a string']},
  'decodeAdapter: bytes': {call: thing => library.decodeAdapter(thing), takes: BYTES},
  'encodeAdapter: adapter': {call: thing => library.encodeAdapter(thing), takes: ADAPTER},
  'fromKeras: bytes': {call: thing => library.fromKeras(thing), takes: BYTES},
  'toKeras: adapter': {call: thing => library.toKeras(thing), takes: ADAPTER},
  'loadAdapter: model': {
    call: thing => library.loadAdapter(thing, encodeSafetensors({tensors: new Map(), metadata: {}})),
    takes: [],
  },
  'loadAdapter: source': {call: (thing, all) => library.loadAdapter(all['a model'], thing), takes: SOURCE},
  'readAdapter: source': {call: thing => library.readAdapter(thing), takes: SOURCE},
  'saveAdapter: source': {
    call: thing =>
      library.saveAdapter(
        thing,
        tf.io.withSaveHandler(async () => ({}) as never),
      ),
    takes: ['an adapter', 'an optimizer'],
  },
  'saveAdapter: destination': {
    call: (thing, all) => library.saveAdapter(all['an adapter'], thing),
    takes: [],
  },
  'saveAdapter: model': {
    call: (model, all) =>
      library.saveAdapter(
        all['an optimizer'],
        tf.io.withSaveHandler(async () => ({}) as never),
        {model},
      ),
    takes: ['undefined', ...MODEL],
  },
  'forgetBases: model': {call: thing => library.forgetBases(thing), takes: [...MODEL, 'an empty object']},
  'mergeAdapter: model': {call: (thing, all) => library.mergeAdapter(thing, all['an adapter']), takes: []},
  'mergeAdapter: adapter': {call: (thing, all) => library.mergeAdapter(all['a model'], thing), takes: []},
  'unmergeAdapter: model': {call: thing => library.unmergeAdapter(thing), takes: []},
  'unmergeAdapter: adapter': {call: (thing, all) => library.unmergeAdapter(all['a model'], thing), takes: []},
  'namedWeights: model': {call: thing => library.namedWeights(thing), takes: [...MODEL, 'an empty object']},
  'fromPeft: files': {call: thing => library.fromPeft(thing), takes: []},
  'fromPeft: config': {
    call: config => library.fromPeft({config, weights: new Uint8Array(8)}),
    takes: ['an adapter', 'a list of nothing', 'the weights of a model', 'a list of tensors'],
  },
  'fromPeft: weights': {
    call: weights => library.fromPeft({config: '{"peft_type": "LORA"}', weights}),
    takes: BYTES,
  },
  'fromPeft: model': {
    call: (model, {'files of PEFT': files}) =>
      library.fromPeft(
        {config: files['adapter_config.json'], weights: files['adapter_model.safetensors']},
        {model},
      ),
    takes: ['undefined'],
  },
  'toPeft: adapter': {call: thing => library.toPeft(thing), takes: ADAPTER},
  'toPeft: model': {
    call: (model, all) => library.toPeft(all['an adapter'], {model}),
    takes: ['undefined', ...MODEL, 'an empty object'],
  },
  'describeSafetensors: bytes': {call: thing => library.describeSafetensors(thing), takes: BYTES},
  'decodeSafetensors: bytes': {call: thing => library.decodeSafetensors(thing), takes: BYTES},
  'encodeSafetensors: file': {call: thing => library.encodeSafetensors(thing), takes: []},
  'checkpoints: trained': {call: thing => library.checkpoints(thing, 'file://nowhere', every), takes: []},
  'checkpoints: model': {
    call: (model, all) =>
      library.checkpoints({optimizer: all['an optimizer'], model}, 'file://nowhere', every),
    takes: [...MODEL, 'an object', 'an empty object'],
  },
  'checkpoints: folder': {
    call: (thing, all) =>
      library.checkpoints({optimizer: all['an optimizer'], model: all['a model']}, thing, every),
    takes: [],
  },
  'latestCheckpoint: folder': {call: thing => library.latestCheckpoint(thing), takes: []},
  'loadCheckpoint: into': {call: thing => library.loadCheckpoint(thing, 'nowhere://'), takes: []},
  'loadCheckpoint: source': {
    call: (thing, all) => library.loadCheckpoint(all['an optimizer'], thing),
    takes: SOURCE,
  },
  'loadCheckpoint: model': {
    call: (model, all) => library.loadCheckpoint(all['an optimizer'], 'nowhere://', {model}),
    takes: [],
  },
  'saveCheckpoint: source': {call: thing => library.saveCheckpoint(thing, 'nowhere://'), takes: []},
  'saveCheckpoint: destination': {
    call: (thing, all) => library.saveCheckpoint(all['an optimizer'], thing),
    takes: [],
  },
  'saveCheckpoint: model': {
    call: (model, all) => library.saveCheckpoint(all['an optimizer'], 'nowhere://', {model}),
    takes: [],
  },
};

/** What JavaScript says when nobody has looked. */
const ACCIDENT =
  /cannot read|cannot convert|is not a function|is not iterable|is not defined|is not an object|null or undefined|destructure|\[object |'in' operator|invalid array|undefined'? as/i;

test('every function of the entry is in the table', () => {
  const named = new Set(Object.keys(rows).map(key => key.split(':')[0]));
  expect([...named].sort()).toEqual(
    Object.entries(library)
      .filter(([, value]) => typeof value === 'function')
      .map(([name]) => name)
      .sort(),
  );
});

describe('the wrong thing is one line that says what is wanted', () => {
  test.each(Object.entries(rows))('%s', async (_, {call, takes}) => {
    const all = await things();
    const before = numbers(all['a model']);
    const tensors = numTensors();
    for (const [name, thing] of Object.entries(all)) {
      let error: unknown;
      try {
        await call(thing as never, all);
      } catch (thrown) {
        error = thrown;
      }
      if (error === undefined) {
        expect(takes, `${name} is taken`).toContain(name);
        continue;
      }
      expect(error, name).toBeInstanceOf(Error);
      const {message} = error as Error;
      expect(message, name).not.toMatch(ACCIDENT);
      expect(message, name).not.toMatch(/\n/);
      expect(message.length, `${name}: ${message}`).toBeLessThan(400);
    }
    expect(numbers(all['a model'])).toEqual(before);
    expect(numTensors()).toBe(tensors);
  });
});

describe('the line names the call to make', () => {
  const cases: [string, (all: Things) => unknown, RegExp][] = [
    [
      'a model for an adapter',
      all => toPeft(all['a model'] as never),
      /^toPeft: an adapter is needed, and this is a model: await adapterOf\(model\.optimizer, model\) gives/,
    ],
    [
      'no adapter',
      all => library.mergeAdapter(all['a model'], undefined as never),
      /^mergeAdapter: an adapter is needed, and this is undefined: readAdapter, adapterOf, extractAdapter and fromPeft/,
    ],
    [
      'no source',
      all => library.loadAdapter(all['a model'], undefined as never),
      /to load there must be an address such as .* not undefined/,
    ],
    [
      'an adapter that was not awaited',
      all => library.mergeAdapter(all['a model'], all['a Promise'] as never),
      /a Promise that was not awaited: await it first/,
    ],
    [
      'a model that was not awaited',
      all => library.mergeAdapter(Promise.resolve(all['a model']) as never, all['an adapter']),
      /^mergeAdapter: a model is needed, or its variables, and this is a Promise .*await it first/,
    ],
    [
      'the two in the other order',
      all => library.mergeAdapter(all['an adapter'] as never, all['a model'] as never),
      /^mergeAdapter: a model is needed, .* this is an adapter: give the model that the adapter is for/,
    ],
    [
      'an address for an adapter',
      all => library.mergeAdapter(all['a model'], 'file://french' as never),
      /this is "file:\/\/french": await readAdapter\(address\)/,
    ],
    ['a path for an address', () => library.readAdapter('french'), /perhaps 'file:\/\/french'/],
    [
      'a model to save to',
      all => library.saveAdapter(all['an adapter'], all['a model'] as never),
      /to save there must be an address .* not a model/,
    ],
    [
      'weights for a model',
      all => library.mergeAdapter(all['the weights of a model'] as never, all['an adapter']),
      /its item 0 is none, .*: give the model itself/,
    ],
    [
      'a snapshot that was not awaited',
      all => library.extractAdapter(all['a model'], snapshot(all['a model']) as never, options),
      /this is a Promise that was not awaited: await it first/,
    ],
    [
      'a list of adapters',
      all => library.mergeAdapter(all['a model'], [all['an adapter']] as never),
      /one at a time; combine/,
    ],
    [
      'adapters without weights',
      all => library.combine([all['an adapter']] as never),
      /combine: part 0, \{adapter, weight\}/,
    ],
    [
      'what extractAdapter gives',
      all => library.mergeAdapter(all['a model'], all['what extractAdapter gives'] as never),
      /give its \.adapter/,
    ],
    [
      'an optimizer without its model',
      () => library.checkpoints(loraAdam(1) as never, 'file://x', every),
      /this is an optimizer: checkpoints\(\{optimizer, model\}/,
    ],
  ];
  test.each(cases)('%s', async (_, call, message) => {
    const all = await things();
    await expect((async () => call(all))()).rejects.toThrow(message);
  });
});

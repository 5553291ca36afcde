// The published GraphModels that trainableGraphModel is checked on: those of the npm package @vladmandic/human (MIT),
// which are loaded from it and never kept.
import {execFileSync} from 'node:child_process';
import {createHash} from 'node:crypto';
import {existsSync, mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const name = '@vladmandic/human';
const version = '3.3.6';
const sha512 = 'Nr5mPfq1gQ+uKeXY5uM3Fj8UxvF5CEh2s6txM5wRThqaW0mF9huooOuZSrT8hhGho0hGaXLFdAwfD/2+teCv6A==';
export const source = `${name} ${version}`;

const call = 'StatefulPartitionedCall';

/**
 * @typedef {object} Published
 * @property {string} name of its .json
 * @property {string[]} [outputs] the option, where the model's own outputs are behind ops without a gradient
 * @property {string[]} [inputs] the option, where something before has to wait
 * @property {RegExp} [refusal] what the wrapping says without these options: the op that stands in the way
 * @property {number} [rate] of Adam, where 2e-4 is too much for it
 * @property {boolean} [cpu] small enough to be checked on the cpu backend too
 */

/** @type {Published[]} */
export const models = [
  {name: 'antispoof'},
  {name: 'blazeface', rate: 5e-5},
  {
    name: 'centernet',
    rate: 1e-5,
    outputs: ['tower_0/wh', 'tower_0/keypoints'],
    refusal: /nothing in this graph can be trained: tfjs has no gradient for Equal \(node tower_0\/Equal\)/,
  },
  {name: 'emotion'},
  {name: 'facemesh'},
  {name: 'faceres', rate: 1e-5},
  {name: 'handlandmark-lite', rate: 5e-7},
  {
    name: 'handtrack',
    rate: 5e-5,
    outputs: [`${call}/Postprocessor/convert_scores`, `${call}/Postprocessor/ExpandDims_1`],
    inputs: [`${call}/map/TensorArrayV2Stack/TensorListStack`],
    refusal: /ClipToWindow\/Where is Where, which tfjs runs with executeAsync only/,
  },
  {name: 'iris'},
  {name: 'liveness', cpu: true},
  {
    name: 'movenet-lightning',
    outputs: [
      `${call}/Reshape_2`,
      `${call}/kpt_regress_0/conv2d_6/BiasAdd`,
      `${call}/Sigmoid`,
      `${call}/kpt_offset_0/conv2d_7/BiasAdd`,
    ],
    refusal:
      /2 of the 2320282 numbers of this graph can be trained: tfjs has no gradient for GatherNd \(node /,
  },
];

/**
 * The folder of the models, from PUBLISHED_MODELS or from the registry that npm uses.
 * @returns {{folder: string, remove: () => void} | {reason: string}}
 */
export function findModels() {
  const given = process.env.PUBLISHED_MODELS;
  if (given) {
    const folder = [given, join(given, 'models'), join(given, 'package/models')].find(each =>
      existsSync(join(each, 'emotion.json')),
    );
    if (!folder) throw new Error(`PUBLISHED_MODELS is ${given}, where no emotion.json is`);
    return {folder, remove() {}};
  }
  const temporary = mkdtempSync(join(tmpdir(), 'published-'));
  const remove = () => rmSync(temporary, {recursive: true, force: true});
  try {
    const args = ['pack', `${name}@${version}`, '--loglevel=error', '--pack-destination', temporary];
    const packed = execFileSync('npm', args, {
      cwd: temporary,
      encoding: 'utf8',
      timeout: 60_000,
      env: {...process.env, npm_config_fetch_retries: '0'},
      stdio: 'pipe',
    });
    const file = join(temporary, packed.trim().split('\n').at(-1));
    const is = createHash('sha512').update(readFileSync(file)).digest('base64');
    if (is !== sha512) throw new Error(`${source} is not what it was: its sha512 is ${is}`);
    execFileSync('tar', ['-xzf', file, '-C', temporary, 'package/models']);
    return {folder: join(temporary, 'package/models'), remove};
  } catch (error) {
    remove();
    if (/is not what it was/.test(error.message)) throw error;
    const lines = `${error.stderr ?? ''}\n${error.code ?? ''} ${error.message}`.split('\n');
    const why =
      lines.find(line => /^npm (error|ERR)/.test(line)) ?? `npm pack: ${error.code ?? error.message}`;
    return {reason: `${source} cannot be had: ${why.trim()}`};
  }
}

/** A handler that loads NAME.json and its weights. */
export const handlerOf = (folder, name) => ({
  async load() {
    const {weightsManifest, ...rest} = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
    const bytes = Buffer.concat(
      weightsManifest.flatMap(({paths}) => paths.map(path => readFileSync(join(folder, path)))),
    );
    return {
      ...rest,
      weightSpecs: weightsManifest.flatMap(({weights}) => weights),
      weightData: Uint8Array.from(bytes).buffer,
    };
  },
});

// What has to hold when a GraphModel is trained by trainableGraphModel, and what it costs.
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs';
import {lora, loraAdam, loraSgd, projected, trainableGraphModel} from 'tfjs-lora';

const rank = 4;
const seed = 1;

/** Gradients that come as factors and those that are formed may differ by this, relative to the largest number. */
const tolerance = 2e-3;

const memory = () => [tf.memory().numTensors, tf.engine().backend.numDataIds()];
const numbers = tensors => tensors.map(tensor => tensor.dataSync().slice());

/** Smooth images: sums of waves, between 0 and 1, or 255 where whole numbers are asked for. */
function images({inputs}, first) {
  const given = inputs.map(({shape, dtype}, input) => {
    const [, height, width, channels] = shape.map((axis, i) => (axis > 0 ? axis : i === 0 ? 1 : 320));
    return tf.tidy(() => {
      const wave = (length, channel, axis) => {
        const phase = first + 2 * channel + input + axis;
        return tf.sin(tf.add(tf.linspace(0, 3 + phase, length), phase));
      };
      const planes = Array.from({length: channels}, (_, channel) =>
        tf.mul(wave(height, channel, 0).expandDims(1), wave(width, channel, 1).expandDims(0)),
      );
      const image = tf.div(tf.add(tf.stack(planes, -1), 1), 2).expandDims(0);
      return dtype === 'int32' ? tf.cast(tf.mul(image, 255), 'int32') : image;
    });
  });
  return given.length === 1 ? given[0] : given;
}

/** What the graph is fed with: images, or what the model makes of them before the nodes that it is fed at. */
async function fedWith(model, inputs, first) {
  const image = images(model, first);
  if (!inputs) return image;
  const fed = [await model.executeAsync(image, inputs)].flat();
  tf.dispose(image);
  return fed;
}

/** The error of a call or what it warns of, '' for neither. */
function complaint(f) {
  const {warn} = console;
  const said = [];
  console.warn = line => said.push(String(line));
  try {
    f();
  } catch (error) {
    said.push(error.message);
  } finally {
    console.warn = warn;
  }
  return said.join('\n');
}

/** The loss that takes a model to what it says about other images: 1 at the start, or 0 for an output that is the same. */
function lossTowards(trainable, x, goals, starts) {
  const terms = goals.map((goal, i) => {
    const mean = tensor => tf.tidy(() => tf.mean(tensor()).dataSync()[0]);
    const far = mean(() => tf.squaredDifference(starts[i], goal));
    const size = mean(() => tf.square(goal));
    return {i, goal, scale: 1 / (goals.length * (far > 1e-5 * size ? far : size || 1))};
  });
  return () => {
    const outputs = trainable.applyAll(x);
    return tf.addN(
      terms.map(({i, goal, scale}) => tf.mul(tf.mean(tf.squaredDifference(outputs[i], goal)), scale)),
    );
  };
}

/** The losses of some steps, and where the memory stood after the second. */
function train(optimizer, loss, variables, steps) {
  const losses = [];
  let flat = memory();
  for (let i = 0; i < steps; i++) {
    const cost = optimizer.minimize(loss, true, variables);
    losses.push(cost.dataSync()[0]);
    cost.dispose();
    if (i === 1) flat = memory();
  }
  if (steps > 1) assert.deepEqual(memory(), flat, 'a step leaves tensors behind');
  return losses;
}

/** The factors b after one step of SGD: the gradients, but for the rate. */
function firstStep(loss, variables, capture) {
  const optimizer = loraSgd(1, {rank, seed, capture});
  optimizer.minimize(loss, false, variables);
  const rows = optimizer.explain(variables, null);
  const factors = variables.map((variable, i) =>
    rows[i].treatment === 'freeze' ? null : optimizer.factors(variable).b.dataSync().slice(),
  );
  optimizer.dispose();
  return factors;
}

/** max |a - b| / max |b|. */
function difference(a, b) {
  let [worst, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    worst = Math.max(worst, Math.abs(a[i] - b[i]));
    size = Math.max(size, Math.abs(b[i]));
  }
  return size === 0 ? worst : worst / size;
}

/** A save handler that keeps what it is given. */
function kept() {
  const handler = {
    async save(artifacts) {
      handler.artifacts = artifacts;
      return {modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts)};
    },
  };
  return handler;
}

/** How often each thing is in a list. */
const counted = list => list.reduce((counts, each) => ({...counts, [each]: (counts[each] ?? 0) + 1}), {});

/**
 * Whether a model of the folder trains on the backend as it is, in one step.
 * @returns {Promise<string>} '' or the first line of what it says
 */
export async function trainsAtAll({outputs, inputs}, handler) {
  const model = await tf.loadGraphModel(handler);
  const x = await fedWith(model, inputs, 1);
  const trainable = trainableGraphModel(model, {outputs, inputs});
  const optimizer = loraAdam(1e-4, {rank, seed});
  const loss = () => tf.addN(trainable.applyAll(x).map(y => tf.mean(tf.square(y))));
  try {
    return complaint(() => optimizer.minimize(loss, false, Object.values(trainable.variables))).split(
      '\n',
    )[0];
  } finally {
    optimizer.dispose();
    model.dispose();
    tf.dispose(x);
  }
}

/**
 * @param {import('./models.mjs').Published} published
 * @param handler that loads it
 * @param {{steps?: number}} [options]
 * @throws where something does not hold
 */
export async function check({name, outputs, inputs, refusal, rate = 2e-4}, handler, {steps = 3} = {}) {
  const file = await handler.load();
  const model = await tf.loadGraphModel(handler);
  const unwrapped = memory();

  // As it was published, with what stands in the way named in one line, and the way around it.
  if (refusal) {
    const said = complaint(() => trainableGraphModel(model).restore());
    assert.match(said, refusal);
    assert(!said.includes('\n'), `more than a line: ${said}`);
    const advice = new Function(`return ${/\{outputs:.*\}/.exec(said)[0]}`)();
    assert.deepEqual(
      {outputs: [...advice.outputs].sort(), inputs: advice.inputs},
      {outputs: [...outputs].sort(), inputs},
      'the way around',
    );
  }
  assert.deepEqual(memory(), unwrapped, 'a refusal leaves tensors behind');

  const [x, other] = [await fedWith(model, inputs, 1), await fedWith(model, inputs, 5)];
  const fed = memory();
  const names = outputs ?? model.executor.outputNodes;
  const named = inputs ? Object.fromEntries(inputs.map((input, i) => [input, x[i]])) : x;
  const stock = [model.execute(named, names)].flat();
  const first = numbers(stock);
  const trainable = trainableGraphModel(model, {outputs, inputs});
  const variables = Object.values(trainable.variables);
  const starts = trainable.applyAll(x);
  assert.deepEqual(numbers(starts), first, 'wrapped, it predicts otherwise');
  const goals = trainable.applyAll(other);
  const loss = lossTowards(trainable, x, goals, starts);

  // Gradients as factors and as matrices.
  const one = firstStep(loss, variables, 'auto');
  trainable.restore();
  const anew = () => {
    const again = trainableGraphModel(model, {outputs, inputs});
    return {again, list: Object.values(again.variables), cost: lossTowards(again, x, goals, starts)};
  };
  const dense = anew();
  const two = firstStep(dense.cost, dense.list, 'dense');
  dense.again.restore();
  const apart = Math.max(...one.map((b, i) => (b === null ? 0 : difference(b, two[i]))));
  assert(apart < tolerance, `gradients as factors and as matrices differ by ${apart}`);

  // loraAdam, and the same written out.
  const written = anew();
  const spelt = projected(tf.train.adam(rate, 0.9, 0.999, 1e-7), lora({rank}), {seed});
  const same = train(spelt, written.cost, written.list, 1);
  spelt.dispose();
  written.again.restore();
  const last = anew();
  const optimizer = loraAdam(rate, {rank, seed});
  const losses = train(optimizer, last.cost, last.list, steps);
  assert.deepEqual(losses.slice(0, same.length), same, 'loraAdam is not projected adam');
  assert(Math.min(...losses) < 0.95 * losses[0], `the loss does not fall: ${losses}`);
  const rows = optimizer.explain(last.list, null);

  // Saved, it is a model of stock tfjs with the learned weights, and the untouched ones as they were.
  const tuned = last.again.applyAll(x);
  const handlerOfSaved = kept();
  await last.again.save(handlerOfSaved);
  const {artifacts} = handlerOfSaved;
  const merged = await tf.loadGraphModel(tf.io.fromMemory(artifacts));
  const loaded = [merged.execute(named, names)].flat();
  assert.deepEqual(numbers(loaded), numbers(tuned), 'saved and loaded, it predicts otherwise');
  assert.notDeepEqual(numbers(tuned), first);
  const moved = new Set(rows.filter(({treatment}) => treatment !== 'freeze').map(row => row.name));
  const changed = artifacts.weightSpecs.filter((spec, i) => {
    const before = file.weightSpecs[i];
    return spec.quantization?.dtype !== before.quantization?.dtype;
  });
  assert(changed.length <= moved.size, 'weights that were not trained are written otherwise');
  tf.dispose(loaded);
  merged.dispose();

  // And back, bit for bit.
  optimizer.dispose();
  last.again.restore();
  const again = [model.execute(named, names)].flat();
  assert.deepEqual(numbers(again), first, 'restored, it predicts otherwise');
  const {artifacts: original} = await (async () => {
    const untouched = trainableGraphModel(model, {outputs, inputs});
    const handlerOfFirst = kept();
    await untouched.save(handlerOfFirst);
    untouched.restore();
    return handlerOfFirst;
  })();
  assert(
    Buffer.from(original.weightData).equals(Buffer.from(file.weightData)),
    'the file is not what it was',
  );
  tf.dispose([stock, starts, goals, tuned, again]);
  assert.deepEqual(memory(), fed, 'tensors are left behind');
  tf.dispose([x, other]);
  model.dispose();

  const sum = (list, pick) => list.reduce((total, each) => total + pick(each), 0);
  const targets = rows.filter(({treatment}) => treatment !== 'freeze');
  const sizeOf = spec => tf.util.sizeFromShape(spec.shape);
  return {
    name,
    steps,
    dtypes: Object.keys(
      counted(
        file.weightSpecs
          .filter(({dtype}) => dtype === 'float32')
          .map(spec => spec.quantization?.dtype ?? spec.dtype),
      ),
    ),
    numbers: sum(
      file.weightSpecs.filter(({dtype}) => dtype === 'float32'),
      sizeOf,
    ),
    variables: variables.length,
    reached: sum(rows, row => row.of),
    targets: targets.length,
    captured: counted(targets.map(({capture}) => capture)),
    frozen: counted(rows.filter(({treatment}) => treatment === 'freeze').map(({why}) => why)),
    trained: sum(targets, row => row.trained),
    apart,
    losses,
    bytes: file.weightData.byteLength,
    merged: artifacts.weightData.byteLength,
    ways: {...(outputs && {outputs}), ...(inputs && {inputs})},
  };
}

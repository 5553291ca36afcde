// What happens inside the tfjs engine between two moments: kernels run, bytes added, bytes at the peak.
import * as tf from '@tensorflow/tfjs';

/** Kernels that only show a tensor in another form: no program runs for them on webgl and webgpu. */
const views = new Set(['Identity', 'Reshape']);

/** Kernels whose time depends on the layout: they are told apart by shapes and transpose flags. */
const byShape = /MatMul|Conv|Transpose|Slice|Split/;

function describe(name, inputs, attrs) {
  if (!byShape.test(name)) return name;
  const flags = ['transposeA', 'transposeB'].filter(flag => attrs?.[flag]);
  const shapes = Object.values(inputs)
    .filter(tensor => tensor?.shape)
    .map(({shape}) => `[${shape}]`);
  return [name, ...shapes, ...flags].join(' ');
}

/**
 * Watches the engine until `stop()`.
 *
 * A launch is a call of the engine's `runKernelFunc` with a kernel's name, except the views above and except kernels
 * that another kernel calls for itself. Bytes are sampled whenever the engine takes note of a tensor, in two ways:
 * `tensors` is `tf.memory().numBytes`, which counts data as often as tensors share it (a clone, a reshape);
 * `buffers` counts data once. Both are relative to the start of the watch.
 */
export function watchEngine() {
  const engine = tf.engine();
  const {runKernelFunc, trackTensor, removeDataId} = engine;
  const {state} = engine;
  const before = state.numBytes;
  const kernels = {};
  const peak = {tensors: 0, buffers: 0};
  let [buffers, launches, depth, kernelMs] = [0, 0, 0, 0];

  engine.runKernelFunc = function (call) {
    const name = call.kernelName;
    if (name === undefined || depth > 0) return runKernelFunc.call(this, call);
    const start = performance.now();
    depth++;
    try {
      return runKernelFunc.call(this, call);
    } finally {
      depth--;
      const ms = performance.now() - start;
      kernelMs += ms;
      if (!views.has(name)) launches++;
      const row = (kernels[describe(name, call.inputs, call.attrs)] ??= {calls: 0, ms: 0});
      row.calls++;
      row.ms += ms;
    }
  };
  engine.trackTensor = function (tensor, backend) {
    const isNew = !state.tensorInfo.has(tensor.dataId);
    trackTensor.call(this, tensor, backend);
    if (isNew) buffers += state.tensorInfo.get(tensor.dataId).bytes;
    peak.tensors = Math.max(peak.tensors, state.numBytes - before);
    peak.buffers = Math.max(peak.buffers, buffers);
  };
  engine.removeDataId = function (dataId, backend) {
    const bytes = state.tensorInfo.get(dataId)?.bytes ?? 0;
    removeDataId.call(this, dataId, backend);
    if (!state.tensorInfo.has(dataId)) buffers -= bytes;
  };

  return {
    stop() {
      for (const name of ['runKernelFunc', 'trackTensor', 'removeDataId']) delete engine[name];
      return {launches, kernels, kernelMs, peak, added: {tensors: state.numBytes - before, buffers}};
    },
  };
}

// How far a place may be from the cpu backend in Node, and what is known not to work where. Anything else fails.

/** Largest difference of how far weights moved, over the largest such move; of a loss, over that loss. */
export const tolerances = {
  cpu: {limit: 1e-5, why: 'the same float32 operations; browsers have their own `exp` and `tanh`'},
  wasm: {
    limit: 1e-4,
    why: 'other orders of summation; Adam divides a small gradient by its own size, rounding included',
  },
  webgl: {limit: 1e-3, why: 'other orders of summation, and `exp`, `tanh`, division as the GPU has them'},
  webgpu: {limit: 1e-3, why: 'as webgl; SwiftShader’s `cos` and `exp` are off by some 1e-4'},
};

/** Scenarios and features for which more is allowed. */
export const exceptions = {};

const lacks = kernel => RegExp(`Kernel '${kernel}' not registered`);
const filter = lacks('Conv2DBackpropFilter');
const rows = lacks('UnsortedSegmentSum');
const stock = ({backend, kernels}) => backend === 'wasm' && !kernels;
const gpu = ({backend}) => backend === 'webgpu';

/**
 * What is known: in which places, of which names and ways, and what happens: an `error`, or that it `differs` from cpu.
 * What is known must happen, so that the page stays true.
 */
export const known = [
  {
    places: stock,
    names: /convolution|max pooling of negative/,
    ways: ['dense', 'plain'],
    error: filter,
    why: 'tfjs has no gradient kernel for filters there',
  },
  {
    places: stock,
    names: /^embedding/,
    ways: ['dense', 'plain'],
    error: rows,
    why: 'tfjs has no gradient kernel for gather there',
  },
  {
    places: stock,
    names: /max pooling of negative/,
    ways: ['auto'],
    differs: true,
    why: 'tfjs’s MaxPoolGrad is wrong for windows without a positive number',
  },
  {
    places: gpu,
    names:
      /(pissa|olora|loraXS|osf) \(of the weight|of a gradient|of the inputs|riemannian|loraPro|galore|telemetry|allocateRanks/,
    error: /must be read here, and the webgpu backend/,
    why: 'reads small matrices on the host, which webgpu cannot hand over at once; an error says so',
  },
];

// What tfjs-lora is held to, and what was measured.

/** The sizes that the targets are for, in their order. */
const sizes = ['D 1024, T 256', 'D 512, T 2048'];

/** `at` takes the ratio from the numbers of one size. */
const goals = [
  {
    what: '`tf.train.adam` on all weights, as shipped / tfjs-lora, time',
    at: find => find.ms('adam', 'shipped') / find.ms('tapped', 'shipped'),
    atLeast: [20, 14],
  },
  {
    what: 'LoRA layers by hand, as shipped / tfjs-lora, time',
    at: find => find.ms('layers', 'shipped') / find.ms('tapped', 'shipped'),
    atLeast: [4, 4],
  },
  {
    what: '`tf.train.adam` on all weights, fast kernels / tfjs-lora, time',
    at: find => find.ms('adam', 'fast') / find.ms('tapped', 'shipped'),
    atLeast: [1.6, 1.4],
  },
  {
    what: 'LoRA layers by hand, fast kernels / tfjs-lora, time',
    at: find => find.ms('layers', 'fast') / find.ms('tapped', 'shipped'),
    atLeast: [1, 1],
  },
  {
    what: '`tf.train.adam` on all weights / tfjs-lora, both with fast kernels, time',
    at: find => find.ms('adam', 'fast') / find.ms('tapped', 'fast'),
    atLeast: [1.6, 1.4],
  },
  {
    what: 'LoRA layers by hand / tfjs-lora, both with fast kernels, time',
    at: find => find.ms('layers', 'fast') / find.ms('tapped', 'fast'),
    atLeast: [1, 1],
  },
  {
    what: 'tfjs-lora / floor, time',
    at: find => find.ms('tapped', 'shipped') / find.ms('floor', 'shipped'),
    atMost: [1.15, 1.1],
  },
  {
    what: '`tf.train.adam` on all weights / tfjs-lora, peak bytes',
    at: find => find.peak('adam').tensors / find.peak('tapped').tensors,
    atLeast: [4, 1.05],
  },
  {
    what: 'the same, data that tensors share counted once',
    at: find => find.peak('adam').buffers / find.peak('tapped').buffers,
    atLeast: [4, 1.05],
  },
];

/** A row per target: what, and for each size the target, the ratio, and whether it is met: null at any other size. */
export function compareWithTargets(runs) {
  return goals.map(({what, at, atLeast, atMost}) => ({
    what,
    cells: runs.map((run, i) => {
      const ratio = at(finder(run));
      const {D, T} = run.size;
      const holds = atLeast ? ratio >= atLeast[i] : ratio <= atMost[i];
      const met = sizes[i] === `D ${D}, T ${T}` ? holds : null;
      return {target: atLeast ? `≥ ${atLeast[i]}` : `≤ ${atMost[i]}`, ratio, met};
    }),
  }));
}

const finder = ({candidates}) => {
  const find = (method, kernels) => candidates.find(row => row.method === method && row.kernels === kernels);
  return {
    ms: (method, kernels) => find(method, kernels).ms.median,
    peak: method => find(method, 'shipped').peakBytes,
  };
};

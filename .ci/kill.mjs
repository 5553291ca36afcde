// Kills a training with SIGKILL again and again, three times of four at one stage of a save after the other, else at a
// random moment, and lets it go on from what is on disk. What must hold each time: see test/kill/trainings.mjs.
//
//     node .ci/kill.mjs [--kills 200] [--seed 1]
import {parseArgs} from 'node:util';
import {STAGES} from '../test/kill/stages.mjs';
import {trainings} from '../test/kill/trainings.mjs';

const {values} = parseArgs({
  options: {kills: {type: 'string', default: '200'}, seed: {type: 'string', default: '1'}},
});
const kills = Number(values.kills);
const GRADIENTS = 60;
/** One place is made once and never removed. */
const OF_MANY = ['folder made', 'old model.json removed', 'old folder removed'];

const began = performance.now();
const {endure, counts, bytes, problems, end} = await trainings(GRADIENTS);

/** Numbers from 0 to 1, by Park and Miller's generator. */
let state = 1 + (Number(values.seed) % 1e6);
const random = () => (state = (state * 48271) % 2147483647) / 2147483647;

let planned = 0;
const asked = {one: 0, many: 0};
function* plansFor(kind, most) {
  const stages = STAGES.filter(stage => kind === 'many' || !OF_MANY.includes(stage));
  for (let i = 0; i < most; i++) {
    if (++planned % 4 === 0) yield {delay: random() * 120};
    else yield {stage: stages[asked[kind]++ % stages.length], count: 1 + Math.floor(random() * 3)};
  }
}
async function work(worker) {
  let left = worker === 0 ? Math.ceil(kills / 2) : Math.floor(kills / 2);
  for (let run = worker; left > 0; run += 2) {
    const kind = run % 4 < 2 ? 'many' : 'one';
    // Fewer than planned where a life comes to its end before the stage it was to die at.
    left -= await endure(kind, `run-${run}`, plansFor(kind, Math.min(25, left)));
  }
}
try {
  await Promise.all([work(0), work(1)]);
} finally {
  end();
}

const total = [...counts.kills.values()].reduce((sum, count) => sum + count, 0);
const seconds = ((performance.now() - began) / 1000).toFixed(0);
console.log(
  `${total} kills in ${counts.runs} runs of ${GRADIENTS} gradients; ${counts.read} checkpoints read after kills; ` +
    `${counts.leftovers} temporary files were seen beside them; ${bytes} bytes of weights compared at the end of ` +
    `each run; ${seconds} s`,
);
const stages = ['between saves', ...STAGES];
for (const stage of stages) {
  const count = counts.kills.get(stage) ?? 0;
  console.log(`${String(count).padStart(5)}  ${stage}`);
  if (count === 0 && kills >= 100 && stage !== 'between saves') problems.push(`no kill at '${stage}'`);
}
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);

// Texts made in code, for a run that needs no data.

const choose = (next, all) => all[Math.floor(next() * all.length)];

const animals = ['cat', 'dog', 'hen', 'fox', 'owl', 'cow'];
const doings = ['sees', 'hears', 'likes', 'fears'];

/** `a fox likes the old hen.` */
const plain = next =>
  `a ${choose(next, animals)} ${choose(next, doings)} the ${choose(next, ['old ', 'big ', ''])}${choose(next, animals)}.`;

/** `whom does the fox like? a hen!` */
const questions = next =>
  `whom does the ${choose(next, animals)} ${choose(next, doings).slice(0, -1)}? ${choose(next, ['a', 'no'])} ${choose(next, animals)}!`;

/** Two languages of one alphabet, as characters: one to know beforehand and one to learn. */
export function toyLanguages(next, length = 30_000) {
  const write = sentence => {
    let text = '';
    while (text.length < length) text += `${sentence(next)}\n`;
    return text;
  };
  return {base: write(plain), target: write(questions)};
}

const things = {
  food: ['soup', 'bread', 'rice', 'cake'],
  music: ['song', 'tune', 'drum', 'choir'],
  weather: ['rain', 'snow', 'wind', 'storm'],
};
const finer = {
  order: ['bring me', 'i want', 'please give me'],
  ask: ['is there', 'when comes', 'how is'],
};

/** Sentences of 3 classes, and of 6: the same words, asked for or asked about. */
export function toyIntents(next, perClass = 60) {
  const filler = () => choose(next, ['now', 'today', 'here', 'again', 'for all of us', '']);
  const sentence = (kind, thing) =>
    `${choose(next, finer[kind])} the ${choose(next, things[thing])} ${filler()}`;
  const many = (label, make) => Array.from({length: perClass}, () => ({text: make(), label}));
  const [kinds, topics] = [Object.keys(finer), Object.keys(things)];
  return {
    base: topics.flatMap(topic => many(topic, () => sentence(choose(next, kinds), topic))),
    target: topics.flatMap(topic =>
      kinds.flatMap(kind => many(`${kind} ${topic}`, () => sentence(kind, topic))),
    ),
  };
}

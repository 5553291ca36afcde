// Labelled sentences from files. Each reader gives {text, label}, in the order of the files.
import {readFileSync} from 'node:fs';
import {join} from 'node:path';

const read = (path, encoding = 'utf-8') => new TextDecoder(encoding).decode(readFileSync(path));

const intents = [
  ...['AddToPlaylist', 'BookRestaurant', 'GetWeather', 'PlayMusic'],
  ...['RateBook', 'SearchCreativeWork', 'SearchScreeningEvent'],
];

/** What people say to an assistant, by intent. One of the files is Latin-1. */
export function snips(folder) {
  const part = (kind, ending) =>
    intents.flatMap(label => {
      const isLatin = kind === 'train' && label === 'PlayMusic';
      const json = JSON.parse(
        read(join(folder, `${kind}_${label}${ending}.json`), isLatin ? 'latin1' : 'utf-8'),
      );
      return json[label].map(({data}) => ({
        label,
        text: data
          .map(({text}) => text)
          .join('')
          .trim(),
      }));
    });
  return {train: part('train', '_full'), test: part('validate', '')};
}

/** What customers of a bank ask, by 77 concerns. */
export function banking77(folder) {
  const part = name => {
    const rows = csv(read(join(folder, `${name}.csv`))).slice(1);
    return rows.map(([text, label]) => ({text: text.trim(), label}));
  };
  return {train: part('train'), test: part('test')};
}

/** Sentences of film reviews; Windows-1252. */
export function rtPolarity(folder) {
  const part = (ending, label) =>
    read(join(folder, `rt-polarity.${ending}`), 'windows-1252')
      .split('\n')
      .filter(line => line.trim() !== '')
      .map(text => ({text: text.trim(), label}));
  return [...part('pos', 'positive'), ...part('neg', 'negative')];
}

/** Sentences of reviews of phones, films and restaurants. */
export function uciReviews(folder) {
  return ['amazon_cells', 'imdb', 'yelp'].flatMap(name =>
    read(join(folder, `${name}_labelled.txt`))
      .split('\n')
      .filter(line => line.includes('\t'))
      .map(line => {
        const [text, label] = line.split('\t');
        return {text: text.trim(), label: label.trim() === '1' ? 'positive' : 'negative'};
      }),
  );
}

/** Rows of fields; a field in quotes may hold commas, line ends and doubled quotes. */
function csv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ',') rows.push([]);
  }
  return rows.filter(row => row.length > 1);
}

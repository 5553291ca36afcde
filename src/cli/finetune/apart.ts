import {existsSync, realpathSync, statSync} from 'node:fs';
import {dirname, join, relative, resolve, sep} from 'node:path';
import {mergedFolder} from '../files.js';
import {UsageError} from '../usage-error.js';

/**
 * A run writes nothing over the model; nor, where its folder was asked for, within the folder of the model or a folder of
 * images, nor into the folder in which a file of data lies (a new folder there is fine).
 * @param out the folder of the run
 * @param model the folder of the model
 * @param data the paths of data
 * @param isAsked whether `out` is an `--out` of the user's and not the usual folder, which is new
 * @throws UsageError where it would
 */
export function expectApart(out: string, model: string, data: readonly string[], isAsked: boolean): void {
  const clash = (place: string, whose: string) => {
    const where = realPlace(place) === realPlace(out) ? 'is' : 'lies within';
    return new UsageError(
      `the folder of the run, ${out}, ${where} that of the ${whose}, which stays as it is: give an --out elsewhere`,
    );
  };
  if (isAsked && holds(model, out)) throw clash(model, 'model');
  for (const path of isAsked ? data : []) {
    if (!existsSync(path)) continue;
    if (!statSync(path).isDirectory()) {
      if (realPlace(dirname(resolve(path))) === realPlace(out)) throw clash(dirname(path), 'data');
    } else if (holds(path, out)) throw clash(path, 'data');
  }
  if (realPlace(join(out, mergedFolder)) === realPlace(model)) {
    throw new UsageError(
      `the run would write over the model: ${join(out, mergedFolder)}: give an --out elsewhere`,
    );
  }
}

/** Whether a place is a folder or lies within it. */
function holds(folder: string, place: string): boolean {
  const way = relative(realPlace(folder), realPlace(place));
  return way === '' || !(way === '..' || way.startsWith(`..${sep}`) || resolve(way) === way);
}

/** Without links, as far as it is there. */
function realPlace(path: string): string {
  const whole = resolve(path);
  if (existsSync(whole)) return realpathSync(whole);
  const above = dirname(whole);
  return above === whole ? whole : join(realPlace(above), relative(above, whole));
}

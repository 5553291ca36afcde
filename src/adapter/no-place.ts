import {visible} from './untrusted.js';

/** That a format has no place for a weight, which is sound: what `skip: true` leaves out. */
export class NoPlace extends Error {
  override readonly name = 'Error';

  constructor(message: string) {
    super(visible(message));
  }
}

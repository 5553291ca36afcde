import {io} from '@tensorflow/tfjs-core';
import {expectPlace} from './expect.js';
import {filePath, isNode} from './file-system.js';
import {nodeFiles} from './files.js';
import {errorOf} from './untrusted.js';

/**
 * What saves to, or loads from, an address such as `indexeddb://my-adapter`. Under Node `file://` is always our own,
 * which writes whole or not at all; all other addresses are asked of tfjs, so that what a program registered there
 * (tf.io.registerSaveRouter) works too.
 *
 * @param destination An address, or a handler, which is passed through.
 * @throws Error if nothing handles the address, or more than one thing does.
 */
export function ioHandler(destination: string | io.IOHandler, direction: 'save' | 'load'): io.IOHandler {
  expectPlace(direction, destination);
  return typeof destination === 'string' ? find(destination, direction) : destination;
}

function find(url: string, direction: 'save' | 'load'): io.IOHandler {
  if (url.startsWith('file://') && isNode()) return nodeFiles(filePath(url));
  const found = handlers(url, direction);
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    throw errorOf(
      `${found.length} handlers want to ${direction} '${url}': pass the tf.io.IOHandler you mean in place of the address`,
    );
  }
  const known = ['file', 'indexeddb', 'localstorage', 'downloads', 'http', 'https'].filter(scheme =>
    scheme === 'file' && isNode() ? true : canHandle(`${scheme}://name`, direction),
  );
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1];
  const what = scheme
    ? `nothing here can ${direction} ${scheme}://`
    : `an address begins with a scheme${isNode() ? `, so perhaps 'file://${url}'` : ''}`;
  throw errorOf(
    `cannot ${direction} '${url}': ${what}. Known here: ${known.map(name => `${name}://`).join(', ') || 'none'}. ` +
      'Use one of these, register another with tf.io.registerSaveRouter and registerLoadRouter, or pass a tf.io.IOHandler',
  );
}

function handlers(url: string, direction: 'save' | 'load'): io.IOHandler[] {
  return direction === 'save' ? io.getSaveHandlers(url) : io.getLoadHandlers(url);
}

function canHandle(url: string, direction: 'save' | 'load'): boolean {
  try {
    return handlers(url, direction).length > 0;
  } catch {
    return false;
  }
}

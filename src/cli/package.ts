/** What this package ships beside its code. */
import {readFileSync, statSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';

/** The folder of the small language model of English. */
export const modelFolder = fileURLToPath(new URL('../../examples/byte-lm', import.meta.url));

/** What the model takes on disk. */
export function modelBytes(): number {
  const sizes = ['model.json', 'weights.bin'].map(file => statSync(join(modelFolder, file)).size);
  return sizes.reduce((sum, size) => sum + size);
}

/** The version of tfjs-lora. */
export function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as {version: string}).version;
}

/** How a command is called from where this package lies: its repository, or another's node_modules. */
export function commandLine(command: string): string {
  if (/[\\/]node_modules[\\/]/.test(modelFolder)) return `npx tfjs-lora ${command}`;
  return command === 'adapt' ? 'npm start --' : `npm run ${command} --`;
}

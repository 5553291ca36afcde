/** The commands, and how their mistakes are told. */
import {readFileSync} from 'node:fs';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora <command> [options]

  adapt        adapt a small language model to a text through LoRA
  pretrain     make the small language model that ships with the project again

  --version    print the version
  --help       print this; \`tfjs-lora <command> --help\` explains a command
`;

/** Gives its exit code, 0 if it gives none. */
type Command = (args: string[]) => Promise<number | void>;

/** Each command's module is loaded when it is called: --help and mistakes answer at once. */
const commands: Record<string, () => Promise<Command>> = {
  adapt: async () => (await import('./adapt.js')).adapt,
  pretrain: async () => (await import('./byte-lm/pretrain.js')).pretrain,
};

/**
 * Runs one command line, without the program's name.
 * @returns the exit code: the command's, 2 for a mistake in the call (told in one line), 1 for any other error
 */
export async function run(args: string[]): Promise<number> {
  try {
    return (await dispatch(args)) ?? 0;
  } catch (error) {
    if (!isUsageError(error)) {
      console.error(error);
      return 1;
    }
    console.error(`tfjs-lora: ${error.message.split('\n')[0]}`);
    return 2;
  }
}

async function dispatch([command, ...args]: string[]): Promise<number | void> {
  if (command === undefined || command === '--help' || command === '-h') process.stdout.write(help);
  else if (command === '--version') process.stdout.write(`${version()}\n`);
  else if (Object.hasOwn(commands, command)) return (await commands[command]!())(args);
  else throw new UsageError(`unknown command ${command}: there is ${Object.keys(commands).join(', ')}`);
}

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as {version: string}).version;
}

/** UsageError, and what node:util's parseArgs refuses. */
function isUsageError(error: unknown): error is Error {
  if (error instanceof UsageError) return true;
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}

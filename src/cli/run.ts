/** The commands, and how their mistakes are told. */
import {version} from './package.js';
import {printable} from './printable.js';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora <command> [options]

  finetune     fine-tune your own model on your own data
  adapt        adapt a small language model to a text through LoRA
  generate     write text with that model, adapted or not
  pretrain     make that model again
  inspect      what is in an adapter, a model or a checkpoint
  merge        put an adapter into a model
  convert      an adapter in the form of PEFT, Keras, tfjs or this library
  diff         how two models or two adapters differ
  doctor       which backends run here, what would be faster, known traps

  -v, --version    print the version
  -h, --help       print this; \`tfjs-lora <command> --help\` explains a command

Examples:
  tfjs-lora finetune my-model flowers.csv --label species
  tfjs-lora adapt
  tfjs-lora adapt --text notes.txt --rank 8 --out runs/notes
  tfjs-lora generate --adapter runs/notes/adapter.safetensors
`;

/** Gives its exit code, 0 if it gives none. */
type Command = (args: string[]) => Promise<number | void>;

/** Each command's module is loaded when it is called: --help and mistakes answer at once. */
const commands: Record<string, () => Promise<Command>> = {
  finetune: async () => (await import('./finetune.js')).finetune,
  adapt: async () => (await import('./adapt.js')).adapt,
  generate: async () => (await import('./generate.js')).generateText,
  inspect: async () => (await import('./inspect.js')).inspect,
  merge: async () => (await import('./merge.js')).merge,
  convert: async () => (await import('./convert.js')).convert,
  diff: async () => (await import('./diff.js')).diff,
  doctor: async () => (await import('./doctor.js')).doctor,
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
    const mistake = mistakeOf(error);
    if (mistake === undefined) {
      console.error(error);
      return 1;
    }
    console.error(`tfjs-lora: ${printable(mistake.replace(/\s*\n\s*/g, ' '))}`);
    return 2;
  }
}

async function dispatch([command, ...args]: string[]): Promise<number | void> {
  if (command === undefined || command === '--help' || command === '-h') process.stdout.write(help);
  else if (command === 'help') return dispatch(args.length > 0 ? [args[0]!, '--help'] : []);
  else if (command === '--version' || command === '-v') process.stdout.write(`${version()}\n`);
  else if (Object.hasOwn(commands, command)) return (await commands[command]!())(args);
  else {
    const kind = command.startsWith('-') ? 'option' : 'command';
    throw new UsageError(`unknown ${kind} ${command}: there is ${Object.keys(commands).join(', ')}, --help`);
  }
}

/** What to tell the user about an error that they can mend; undefined for any other. */
export function mistakeOf(error: unknown): string | undefined {
  if (error instanceof UsageError) return error.message;
  if (!(error instanceof Error) || !('code' in error) || error.code !== 'ERR_MODULE_NOT_FOUND')
    return undefined;
  // The whole of tfjs brings its core along.
  const missing = /Cannot find package '([^']+)'/.exec(error.message)?.[1]?.replace(/tfjs-core$/, 'tfjs');
  return missing && `${missing} is not installed: npm install ${missing}`;
}

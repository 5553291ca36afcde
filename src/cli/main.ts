#!/usr/bin/env node
/** The command line: `tfjs-lora <command> [options]`. */
import {readFileSync} from 'node:fs';
import {UsageError} from './usage-error.js';

const help = `Usage: tfjs-lora <command> [options]

  pretrain     make the small language model that ships with the project again

  --version    print the version
  --help       print this; \`tfjs-lora <command> --help\` explains a command
`;

/** Each command's module is loaded when it is called: --help and mistakes answer at once. */
const commands: Record<string, () => Promise<(args: string[]) => Promise<void>>> = {
  pretrain: async () => (await import('./byte-lm/pretrain.js')).pretrain,
};

function version(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(manifest) as {version: string}).version;
}

async function main([command, ...args]: string[]): Promise<void> {
  if (command === undefined || command === '--help' || command === '-h') process.stdout.write(help);
  else if (command === '--version') console.log(version());
  else if (Object.hasOwn(commands, command)) await (await commands[command]!())(args);
  else throw new UsageError(`unknown command ${command}: there is ${Object.keys(commands).join(', ')}`);
}

/** node:util's parseArgs marks what it refuses with such a code. */
function isUsageError(error: unknown): error is Error {
  if (error instanceof UsageError) return true;
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}

main(process.argv.slice(2)).catch((error: unknown) => {
  if (isUsageError(error)) console.error(`tfjs-lora: ${error.message.split('\n')[0]}`);
  else console.error(error);
  process.exitCode = isUsageError(error) ? 2 : 1;
});

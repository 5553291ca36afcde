#!/usr/bin/env node
import {run} from './run.js';

// A reader that went away (`| head -1`) ends the program as SIGPIPE would; a full disk is an error without words,
// for there is nowhere to write them. A terminal that went away sends SIGHUP, which ends the program in order.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', ({code}: NodeJS.ErrnoException) => {
    if (code !== 'EIO') process.exit(code === 'EPIPE' ? 141 : 1);
  });
}

process.exitCode = await run(process.argv.slice(2));

/** A mistake in how the command was called: shown as one line, without a stack; the exit code is 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** A line that says what is being measured. On a terminal it rewrites itself; elsewhere each title is a line. */
export function progressLine(terminal) {
  const start = performance.now();
  let title = '';
  const seconds = () => `${Math.round((performance.now() - start) / 1000)} s`;
  return {
    title(text) {
      title = text;
      if (!terminal.isTTY) terminal.write(`${seconds()}  ${title}\n`);
    },
    update(text) {
      if (terminal.isTTY) terminal.write(`\r\x1b[K${seconds()}  ${title}: ${text}`);
    },
    end() {
      if (terminal.isTTY) terminal.write('\r\x1b[K');
    },
  };
}

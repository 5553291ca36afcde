/** Keeps tfjs from advertising its Node package on the console; all other warnings pass. */
const {warn} = console;
console.warn = (...parts: unknown[]) => {
  if (!parts.some(part => String(part).includes('looks like you are running TensorFlow.js in Node.js')))
    warn(...parts);
};

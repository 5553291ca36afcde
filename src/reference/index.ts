/** `tfjs-lora/reference`: the library's rules in plain float64, to read, to teach and to check against. */
export * from './matrix.js';
export * from './singular.js';
export * from './formula.js';
export * from './parametrization.js';
export * from './full.js';
export * from './lora.js';
export * from './projection.js';
export * from './random-projection.js';
export * from './optimizers.js';
export * from './decay.js';
export * from './clip.js';
export * from './train.js';
export * from './random.js';
export * from './problem.js';

export {checkLaws, expectLaws, type LawName, type LawOptions, type LawResult} from './laws.js';
export type {
  Additive,
  BasedState,
  Composed,
  Fresh,
  Gradient,
  Members,
  Parametrization,
  Start,
  State,
} from '../parametrization.js';

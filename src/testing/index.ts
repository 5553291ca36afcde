export {checkLaws, expectLaws, type LawName, type LawOptions, type LawResult} from './laws.js';

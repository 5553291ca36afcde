// The last line of a run of the tests, from vitest's JSON report.
import {readFileSync} from 'node:fs';

const report = JSON.parse(readFileSync(new URL('../temp/tests.json', import.meta.url), 'utf8'));
const {numPassedTests: passed, numFailedTests: failed, numPendingTests: skipped} = report;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
if (failed > 0 || passed === 0) process.exit(1);

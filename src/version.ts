import {version_core} from '@tensorflow/tfjs-core';

/** The version in package.json, which a test compares. */
export const VERSION = '0.1.0';

/** What files say about who wrote them. */
export const generatedBy = (): string => `tfjs-lora ${VERSION}, tfjs-core ${version_core}`;

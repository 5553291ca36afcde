import type {InnersConfig} from './inners.js';
import type {Parametrization} from './parametrization.js';
import {fromJson, toJson} from './recipe.js';
import type {ProjectedOptions} from './settings.js';

/** What an optimizer was built from, besides its state. */
export interface Config {
  readonly inner: InnersConfig;
  readonly parametrization: Parametrization;
  readonly options: ProjectedOptions;
}

export function writeConfig({inner, ...rest}: Config): string {
  return JSON.stringify({inner, ...(toJson(rest) as object)});
}

/** What `writeConfig` wrote; functions without a recipe come back as stand-ins that say so when they are used. */
export function readConfig(text: string): Config {
  const json = JSON.parse(text) as {inner: InnersConfig; parametrization: unknown; options: object};
  const options = Object.entries(json.options).map(([key, option]) => [key, fromJson(option, key)]);
  return {
    inner: json.inner,
    parametrization: fromJson(json.parametrization, 'parametrization') as Parametrization,
    options: Object.fromEntries(options) as ProjectedOptions,
  };
}

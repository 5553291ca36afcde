import {MOMENTS, type Moments} from './moments.js';
import {expectOneOf, expectOptions} from './options.js';
import type {Parametrization} from './parametrization.js';
import {recipe} from './recipe.js';
import {expectSchedule, type Schedule} from './schedule.js';

/**
 * The same parametrization with a renewal of its own. The options `refresh` and `moments` of the optimizer are for all
 * weights; where rules mix methods this is for one of them.
 *
 *     targets: [[/attention/, renewed(galore({rank: 8}), {refresh: every(50)})], ['head', lora()]]
 *
 * @param renewal When; and what becomes of the moments, by default as the parametrization has it, else 'reset'.
 */
export const renewed = /* @__PURE__ */ recipe(
  'renewed',
  <P extends Parametrization>(parametrization: P, renewal: {refresh: Schedule; moments?: Moments}): P => {
    expectOptions('renewed', renewal, ['refresh', 'moments']);
    expectSchedule('renewed: refresh', renewal.refresh);
    if (!parametrization.refresh) throw new Error(`renewed: ${parametrization.name} has no refresh`);
    const {refresh, moments = parametrization.renewal?.moments ?? 'reset'} = renewal;
    expectOneOf('renewed: moments', moments, MOMENTS);
    return {...parametrization, renewal: {...parametrization.renewal, refresh, moments}};
  },
) as <P extends Parametrization>(parametrization: P, renewal: {refresh: Schedule; moments?: Moments}) => P;

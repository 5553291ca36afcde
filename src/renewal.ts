import {canTransport, hasMoments, type Moments} from './moments.js';
import type {Parametrization} from './parametrization.js';
import {never, type Schedule} from './schedule.js';
import type {ProjectedOptions} from './settings.js';

/** When the subspace of one weight is renewed, and what becomes of the moments. */
export interface Renewing {
  readonly refresh: Schedule;
  readonly moments: Moments;
}

/** What the options say, else the parametrization, else: never. */
export function renewing(
  {renewal, refresh}: Parametrization,
  options: Pick<ProjectedOptions, 'refresh' | 'moments'>,
): Renewing {
  return {
    refresh: (refresh && (options.refresh ?? renewal?.refresh)) ?? never,
    moments: options.moments ?? renewal?.moments ?? 'reset',
  };
}

/** Throws when the moments of an inner optimizer of this class cannot, or must not, be treated so. */
export function expectMoments(p: Parametrization, {refresh, moments}: Renewing, className: string): void {
  if (refresh === never || !hasMoments(className)) return;
  const refused = p.renewal?.refuses?.[moments];
  const others = (['keep', 'transport', 'reset'] as const).filter(
    other => other !== moments && !p.renewal?.refuses?.[other] && (other !== 'transport' || p.transport),
  );
  const fix = `use tf.train.sgd, which has none, or moments: ${others.map(m => `'${m}'`).join(' or ')}`;
  if (refused)
    throw new Error(
      `moments: '${moments}' makes no sense for ${p.name} with ${className}: ${refused}; ${fix}`,
    );
  if (moments !== 'transport') return;
  if (!p.transport) throw new Error(`moments: ${p.name} has no transport; ${fix}`);
  if (!canTransport(className)) {
    throw new Error(
      `moments: 'transport' knows the moments of tfjs's own optimizers, and not those of a ${className}; ${fix}`,
    );
  }
}

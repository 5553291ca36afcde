import {eva} from '../init/eva.js';
import {gaussian} from '../init/gaussian.js';
import {hadamardHe, hadamardNormal, hadamardUniform} from '../init/hadamard.js';
import {kaiming} from '../init/kaiming.js';
import {kroneckerUniform} from '../init/kronecker.js';
import {loraGA} from '../init/lora-ga.js';
import {loraOne} from '../init/lora-one.js';
import {olora} from '../init/olora.js';
import {orthogonal} from '../init/orthogonal.js';
import {pissa} from '../init/pissa.js';
import {symmetric} from '../init/symmetric.js';
import {veraConstant} from '../init/vera.js';
import {additive} from '../parametrizations/additive.js';
import {dora} from '../parametrizations/dora.js';
import {flora} from '../parametrizations/flora.js';
import {full} from '../parametrizations/full.js';
import {galore} from '../parametrizations/galore.js';
import {hadamard} from '../parametrizations/hadamard.js';
import {kronecker} from '../parametrizations/kronecker.js';
import {loraFA} from '../parametrizations/lora-fa.js';
import {loraSB} from '../parametrizations/lora-sb.js';
import {loraXS} from '../parametrizations/lora-xs.js';
import {lora} from '../parametrizations/lora.js';
import {mica} from '../parametrizations/mica.js';
import {osf} from '../parametrizations/osf.js';
import {randomProjection} from '../parametrizations/random-projection.js';
import {vera} from '../parametrizations/vera.js';
import {loraPro} from '../precondition/lora-pro.js';
import {riemannian} from '../precondition/riemannian.js';
import {renewed} from '../renewed.js';

/** The parametrizations a file may name. */
const parametrizations: Readonly<Record<string, unknown>> = {
  ...{additive, dora, flora, full, galore, hadamard, kronecker, lora, loraFA, loraSB, loraXS, mica, osf},
  ...{randomProjection, renewed, vera},
};

/** What their options may name. */
const options: Readonly<Record<string, unknown>> = {
  ...{eva, gaussian, hadamardHe, hadamardNormal, hadamardUniform, kaiming, kroneckerUniform, loraGA, loraOne},
  ...{olora, orthogonal, pissa, symmetric, veraConstant, loraPro, riemannian},
};

/** All of it, in words. Readers use it, so that no bundler leaves one out; writers need none they did not make. */
export const known: string = [parametrizations, options]
  .map(recipes => Object.keys(recipes).join(', '))
  .join(', with ');

import type {Scalar, Variable} from '@tensorflow/tfjs-core';
import {dispose, engine, getBackend, ones, profile, tidy} from '@tensorflow/tfjs-core';
import type {Gradient} from '../capture/gradient.js';
import {canTap, denseGradients, tapGradients} from '../capture/tape.js';

/** What `tfjs-lora/wasm` brings. */
const WASM_KERNELS =
  /UnsortedSegmentSum|Conv2DBackpropFilter|DepthwiseConv2dNativeBackprop|Einsum|MaxPoolGrad|Conv2DBackpropInput/;

export const UNUSED = 'the loss does not depend on it, so it gets no gradient';

/** @throws Error where the loss cannot even be computed */
export function forwards(loss: () => Scalar): void {
  try {
    dispose(tidy(loss));
  } catch (error) {
    throw new Error(`audit: the model fails already forwards: ${reason(error as Error)}`);
  }
}

/** One pass backwards, each gradient used as a step would use it. How each came, by weight. */
export function probe(
  loss: () => Scalar,
  weights: readonly Variable[],
  rankOf: (weight: Variable) => number | null,
): Map<Variable, string> {
  const seen = new Map<Variable, string>();
  if (weights.length === 0) return seen;
  const listen = canTap() ? tapGradients : denseGradients;
  const value = listen(loss, weights, (weight, gradient, how) => {
    tidy(() => use(gradient, rankOf(weight)));
    seen.set(weight, rankOf(weight) === null ? `${how.path}: trained as it is` : `${how.path}: ${how.why}`);
  });
  value.dispose();
  return seen;
}

function use(gradient: Gradient, rank: number | null): void {
  const [m, n] = gradient.shape;
  if (rank === null) {
    gradient.dense();
    return;
  }
  gradient.leftMul(ones([m, rank]));
  gradient.rightMul(ones([n, rank]));
}

/** The most bytes that a pass takes besides what is there before, and the kernels it runs. */
export async function peakOf(
  loss: () => Scalar,
  weights: readonly Variable[],
  rankOf: (weight: Variable) => number | null,
): Promise<{peak: number; kernels: readonly string[]}> {
  const {numBytes} = engine().memory();
  const {peakBytes, kernelNames} = await profile(() => {
    probe(loss, weights, rankOf);
    return [];
  });
  return {peak: Math.max(0, peakBytes - numBytes), kernels: kernelNames};
}

/** What a function gives, or the error it throws; its tensors go. */
export function trial<T>(f: () => T): T | Error {
  engine().startScope();
  try {
    return f();
  } catch (error) {
    return error as Error;
  } finally {
    engine().endScope();
  }
}

/** Why a pass failed, in words that say what helps. */
export function reason({message}: Error): string {
  const kernel = /Kernel '(\w+)' not registered/.exec(message)?.[1];
  if (kernel !== undefined) {
    const isOurs = getBackend() === 'wasm' && WASM_KERNELS.test(kernel);
    const help = isOurs ? 'import "tfjs-lora/wasm", which brings it' : 'take another backend';
    return `the ${getBackend()} backend has no ${kernel}: ${help}`;
  }
  const op = /gradient function not found for (\w+)/.exec(message)?.[1];
  if (op !== undefined) return `tfjs has no gradient for ${op}: freeze the weights before it`;
  return /connected to the loss/.test(message) ? UNUSED : message.split('\n')[0]!;
}

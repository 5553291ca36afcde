/**
 * Formulas as a paper prints them, computed on matrices.
 *
 *     const pullback = formula("s * G * B'");
 *     pullback({s: 2, G, B});
 *
 * mathjs parses and compiles the text; what `*`, `'` or `+` mean is decided here, on ndarrays in float64:
 *
 *     A * B   matrix product, or a number times a matrix      A'        transpose (a view)
 *     A .* B  A ./ B  A .^ 2   element by element             A + B     same shapes; nothing broadcasts
 *     sqrt(A)  abs(A)  max(A, B)   element by element         A + 1     the number meets every element
 *
 * The parser alone is taken from mathjs's number build: no matrices, units or big numbers of its own.
 */
import {create, parseDependencies} from 'mathjs/number';
import ops from 'ndarray-ops';
import {filled, product, sameShape, shapeOf, transpose, zeros, type Matrix} from './matrix.js';

export type Value = Matrix | number;
export type Scope = Record<string, Value>;

/** An expression over named matrices and numbers. Names that are not given are an error. */
export function formula(text: string): (values: Readonly<Scope>) => Matrix {
  const expression = math.parse(text).compile();
  return values => {
    const result: Value = expression.evaluate({...values});
    if (typeof result === 'number') throw new Error(`"${text}" is a number, not a matrix`);
    return result;
  };
}

/** Assignments, one a line, run in order: the scope as it was goes in, the scope as it is afterwards comes out. */
export function rule(text: string): (before: Readonly<Scope>) => Scope {
  const block = math.parse(text.trim()).compile();
  return before => {
    const scope = {...before};
    block.evaluate(scope);
    return scope;
  };
}

const dotMultiply = elementwise(ops.mul);
const dotDivide = elementwise(ops.div);

const operators = {
  add: elementwise(ops.add),
  subtract: elementwise(ops.sub),
  dotMultiply,
  dotDivide,
  dotPow: elementwise(ops.pow),
  max: elementwise(ops.max),
  sqrt: each(ops.sqrt),
  abs: each(ops.abs),
  unaryMinus: each(ops.neg),

  multiply: (x: Value, y: Value): Value => (isMatrix(x) && isMatrix(y) ? product(x, y) : dotMultiply(x, y)),

  divide: (x: Value, y: Value): Value => {
    if (isMatrix(y)) throw new Error('"/" divides by a number; write "./" to divide element by element');
    return dotDivide(x, y);
  },

  pow: (x: Value, y: Value): number => {
    if (isMatrix(x) || isMatrix(y)) throw new Error('"^" is for numbers; write ".^" for a matrix');
    return x ** y;
  },

  ctranspose: (x: Value): Value => (isMatrix(x) ? transpose(x) : x),
};

const math = create({...parseDependencies});
math.import(operators, {override: true});

/** A two-argument ndarray-ops routine `(result, x, y)` for numbers and matrices in any mix. */
function elementwise(operation: (result: Matrix, x: Matrix, y: Matrix) => unknown) {
  const apply = (x: Matrix, y: Matrix) => {
    const result = zeros(sameShape(x, y));
    operation(result, x, y);
    return result;
  };
  return (x: Value, y: Value): Value => {
    if (isMatrix(x)) return apply(x, isMatrix(y) ? y : filled(shapeOf(x), y));
    if (isMatrix(y)) return apply(filled(shapeOf(y), x), y);
    return apply(filled([1, 1], x), filled([1, 1], y)).get(0, 0);
  };
}

/** A one-argument ndarray-ops routine `(result, x)` for a number or a matrix. */
function each(operation: (result: Matrix, x: Matrix) => unknown) {
  return (x: Value): Value => {
    const argument = isMatrix(x) ? x : filled([1, 1], x);
    const result = zeros(shapeOf(argument));
    operation(result, argument);
    return isMatrix(x) ? result : result.get(0, 0);
  };
}

function isMatrix(x: Value): x is Matrix {
  return typeof x !== 'number';
}

import fc from 'fast-check';

type Pads = [[number, number], [number, number], [number, number], [number, number]];

/** Shapes of a convolution or pooling whose output has at least one place. */
export interface Geometry {
  batch: number;
  size: [number, number];
  filter: [number, number];
  strides: [number, number];
  pad: 'same' | 'valid' | Pads;
  channels: number;
}

const pair = (max: number, min = 1) =>
  fc.tuple(fc.integer({min, max}), fc.integer({min, max})) as fc.Arbitrary<[number, number]>;

/** Uneven sizes, 1x1, strides beyond the filter, every kind of padding, batches. */
export const geometries: fc.Arbitrary<Geometry> = fc
  .record({
    batch: fc.integer({min: 1, max: 3}),
    size: pair(9),
    filter: pair(4),
    strides: fc.oneof(fc.constant<[number, number]>([1, 1]), pair(5)),
    pad: fc.oneof(
      fc.constant('same' as const),
      fc.constant('valid' as const),
      fc.tuple(pair(3, 0), pair(3, 0)).map(([rows, columns]): Pads => [[0, 0], rows, columns, [0, 0]]),
    ),
    channels: fc.integer({min: 1, max: 5}),
  })
  .filter(({size, filter, pad}) =>
    [0, 1].every(axis => {
      const padding = pad === 'same' ? 9 : pad === 'valid' ? 0 : pad[axis + 1]![0] + pad[axis + 1]![1];
      return filter[axis]! <= size[axis]! + padding;
    }),
  );

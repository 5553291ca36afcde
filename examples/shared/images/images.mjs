// Reads labelled images in the IDX format of MNIST, gzipped or not.
import {readFileSync} from 'node:fs';
import {gunzipSync} from 'node:zlib';
import {pathsOf} from '../data.mjs';

/** The training and the test images of 'mnist' or 'fashion-mnist'. */
export function readDigitsOrClothes(folder, name) {
  const [trainImages, trainLabels, testImages, testLabels] = pathsOf(folder, name);
  return {train: readImages(trainImages, trainLabels), test: readImages(testImages, testLabels)};
}

/**
 * IDX: two zero bytes, the type (8: bytes), the number of dimensions, each dimension as 4 bytes, big end first, and
 * the values.
 * @returns the dimensions and the values
 */
function readIdx(path) {
  const file = readFileSync(path);
  const bytes = file[0] === 0x1f && file[1] === 0x8b ? gunzipSync(file) : file;
  const rank = bytes[3];
  if (bytes.length < 4 || bytes.readUInt16BE(0) !== 0 || bytes[2] !== 8 || bytes.length < 4 + 4 * rank) {
    throw new Error(`${path} is no IDX file of bytes`);
  }
  const shape = Array.from({length: rank}, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  const size = shape.reduce((product, n) => product * n, 1);
  const values = new Uint8Array(bytes.subarray(4 + 4 * rank));
  if (values.length !== size) throw new Error(`${path} has ${values.length} values; its head says ${size}`);
  return {shape, values};
}

/** Images with their labels; of more labels than images, the first ones count. */
function readImages(imagesPath, labelsPath) {
  const images = readIdx(imagesPath);
  const labels = readIdx(labelsPath);
  const [n, height, width] = images.shape;
  if (height !== width) throw new Error(`${imagesPath} has images of ${height} x ${width}, not square ones`);
  if (labels.values.length < n) throw new Error(`${labelsPath} has fewer labels than ${imagesPath} images`);
  return {pixels: images.values, labels: labels.values.subarray(0, n), side: height};
}

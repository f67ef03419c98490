// Raw voxels as a NIfTI-1 file in memory, the form in which niivue takes them. The grid is written as straight and
// centred at zero: the array already lies in RAS+ order, and this viewer keeps the true affine to itself.

const HEADER = 352;
const LABEL_INTENT = 1002; // without it niivue blends between labels
const TYPES = new Map([[Uint8Array, [2, 8]], [Int16Array, [4, 16]], [Float32Array, [16, 32]], [Uint16Array, [512, 16]]]);

export function niftiFile(voxels, shape, spacing, isLabels) {
  const file = new ArrayBuffer(HEADER + voxels.byteLength);
  const view = new DataView(file);
  const [code, bits] = TYPES.get(voxels.constructor);
  const float = (at, value) => view.setFloat32(at, value, true);
  const short = (at, value) => view.setInt16(at, value, true);
  view.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((length, at) => short(40 + 2 * at, length));
  short(68, isLabels ? LABEL_INTENT : 0);
  short(70, code);
  short(72, bits);
  [1, ...spacing, 1, 1, 1, 1].forEach((step, at) => float(76 + 4 * at, step));
  float(108, HEADER);
  float(112, 1); // slope
  view.setUint8(123, 2); // millimeters
  short(254, 1); // the affine follows
  spacing.forEach((step, axis) => {
    float(280 + 16 * axis + 4 * axis, step);
    float(280 + 16 * axis + 12, (-step * (shape[axis] - 1)) / 2);
  });
  [0x6e, 0x2b, 0x31, 0].forEach((byte, at) => view.setUint8(344 + at, byte));
  new Uint8Array(file, HEADER).set(new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength));
  return file;
}

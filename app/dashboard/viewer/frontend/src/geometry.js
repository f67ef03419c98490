// Where voxels lie: planes, millimeters and the letters of the body. The array comes in RAS+ order: its index grows
// towards the patient's right, anterior and superior, so every plane of a volume runs against both of its axes.

const AXES = { axial: [2, 0, 1], coronal: [1, 0, 2], sagittal: [0, 1, 2] };
const LETTERS = [["R", "L"], ["A", "P"], ["S", "I"]];
const SHARE_WORTH_A_LETTER = 0.38; // the sine of about 22 degrees

/** An image's grid: lengths, strides and the map to millimeters. */
export class Grid {
  constructor(header) {
    this.isVolume = header.kind === "volume";
    this.shape = this.isVolume ? header.shape : [...header.shape, 1];
    this.affine = header.affine;
    this.calibrated = header.calibrated;
    this.strides = [1, this.shape[0], this.shape[0] * this.shape[1]];
    this.spacing = [0, 1, 2].map((axis) => Math.hypot(...this.column(axis)));
    this.planes = (this.isVolume ? Object.keys(AXES) : ["picture"]).map((name) => new Plane(name, this));
  }

  column(axis) {
    return [0, 1, 2].map((row) => this.affine[row][axis]);
  }

  /** Millimeters of an index, whole or not. */
  mm(index) {
    return this.affine.slice(0, 3).map((row) => row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3]);
  }

  /** Position in the array of a whole index. */
  offset(index) {
    return index[0] * this.strides[0] + index[1] * this.strides[1] + index[2] * this.strides[2];
  }

  /** The letters towards which an axis grows (sign 1) or shrinks (sign -1), the closest first. */
  letters(axis, sign) {
    const length = this.spacing[axis];
    return this.column(axis)
      .map((value, row) => ({ share: Math.abs(value) / length, letter: LETTERS[row][value * sign > 0 ? 0 : 1] }))
      .filter(({ share }) => share > SHARE_WORTH_A_LETTER)
      .sort((one, other) => other.share - one.share)
      .map(({ letter }) => letter)
      .join("");
  }
}

/** One plane through the grid: which axes run to the right and down on the screen. */
export class Plane {
  constructor(name, grid) {
    this.name = name;
    this.grid = grid;
    [this.normal, this.across, this.down] = name === "picture" ? [2, 0, 1] : AXES[name];
    this.sign = name === "picture" ? 1 : -1;
    this.columns = grid.shape[this.across];
    this.rows = grid.shape[this.down];
    this.slices = grid.shape[this.normal];
    this.width = this.columns * grid.spacing[this.across];
    this.height = this.rows * grid.spacing[this.down];
  }

  /** Index of the voxel at a column and row of the screen (whole or not) in a slice. */
  index(column, row, slice) {
    const index = [0, 0, 0];
    index[this.normal] = slice;
    index[this.across] = this.sign < 0 ? this.columns - 1 - column : column;
    index[this.down] = this.sign < 0 ? this.rows - 1 - row : row;
    return index;
  }

  /** Column and row of the screen where an index lies. */
  place(index) {
    const [column, row] = [index[this.across], index[this.down]];
    return this.sign < 0 ? [this.columns - 1 - column, this.rows - 1 - row] : [column, row];
  }

  /** The letters at the four sides, or null where the image has no known orientation. */
  letters() {
    if (!this.grid.isVolume) return null;
    return {
      left: this.grid.letters(this.across, 1),
      right: this.grid.letters(this.across, -1),
      top: this.grid.letters(this.down, 1),
      bottom: this.grid.letters(this.down, -1),
    };
  }

  /** Copy one slice, as it lies on the screen, into `target` of columns * rows values. */
  copySlice(voxels, slice, target) {
    const strides = this.grid.strides;
    const across = strides[this.across] * this.sign;
    const down = strides[this.down] * this.sign;
    let first = this.grid.offset(this.index(0, 0, slice));
    for (let row = 0, at = 0; row < this.rows; row += 1, first += down) {
      for (let column = 0, from = first; column < this.columns; column += 1, from += across) target[at++] = voxels[from];
    }
    return target;
  }
}

/** Millimeters between two indices of a grid. */
export function distance(grid, one, other) {
  const [from, to] = [grid.mm(one), grid.mm(other)];
  return Math.hypot(to[0] - from[0], to[1] - from[1], to[2] - from[2]);
}

/** A position in words: "R 12.3  P 4.0  S 30.1 mm". */
export function positionText(grid, index) {
  if (!grid.isVolume) return null;
  const parts = grid.mm(index).map((value, row) => `${LETTERS[row][value < 0 ? 1 : 0]} ${Math.abs(value).toFixed(1)}`);
  return `${parts.join("  ")} mm`;
}

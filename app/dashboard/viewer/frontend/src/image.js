// An image with its masks, as it came.

import { Grid } from "./geometry.js";

export class Image {
  constructor(header, parts) {
    this.header = header;
    this.parts = parts;
    this.grid = new Grid(header);
  }

  /** 256 colours as the canvas stores them (alpha, blue, green, red): transparent where nothing is to be drawn. */
  colourTable(hidden) {
    const table = new Uint32Array(256);
    for (const { label, colour } of this.header.structures) {
      if (!hidden.has(label)) table[label] = (0xff000000 | swapped(colour)) >>> 0;
    }
    return table;
  }

  /** The value at a whole index: a number, or three of a colour picture. */
  value(index) {
    const at = this.grid.offset(index);
    const voxels = this.parts.image;
    if (!this.header.colour) return voxels[at];
    const size = this.grid.shape[0] * this.grid.shape[1];
    return [voxels[at], voxels[at + size], voxels[at + 2 * size]];
  }

  /** The label at a whole index in a mask, or 0. */
  label(mask, index) {
    return this.parts[mask] ? this.parts[mask][this.grid.offset(index)] : 0;
  }
}

function swapped(colour) {
  const number = Number.parseInt(colour.slice(1), 16);
  return ((number & 0xff) << 16) | (number & 0xff00) | (number >> 16);
}

// Draws planes on ordinary canvases: a slice, not the volume, is worked on, so that it is quick without a graphics card.

const IN_MEMORY = { willReadFrequently: true }; // keeps canvases off the graphics card, which may be played by a program

/** Draws one plane of an image into a canvas of its own. */
export class CanvasEngine {
  static async create(image) {
    return new CanvasEngine(image);
  }

  constructor(image) {
    this.name = "canvas";
    this.image = image;
    this.buffers = new Map(image.grid.planes.map((plane) => [plane.name, new PlaneBuffers(plane, image)]));
  }

  /** Draw planes, given as {plane, canvas, box: {left, top, scale, ratio}}. */
  draw(targets, state) {
    for (const { plane, canvas, box } of targets) this.drawPlane(this.buffers.get(plane.name), canvas, box, state);
  }

  drawPlane(buffers, canvas, box, state) {
    const { plane } = buffers;
    const { grid } = plane;
    const context = canvas.getContext("2d", IN_MEMORY);
    const [width, height] = [plane.width * box.scale, plane.height * box.scale];
    buffers.update(state);
    context.setTransform(box.ratio, 0, 0, box.ratio, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "medium";
    context.drawImage(buffers.gray, box.left, box.top, width, height);
    if (state.showModel && this.image.parts.model) {
      context.imageSmoothingEnabled = false;
      context.globalAlpha = state.opacity;
      context.drawImage(buffers.fill, box.left, box.top, width, height);
      context.globalAlpha = 1;
    }
    if (state.showReference && this.image.parts.reference) {
      const cell = [grid.spacing[plane.across] * box.scale, grid.spacing[plane.down] * box.scale];
      for (const [colour, edges] of buffers.outlines) strokeEdges(context, edges, colour, box, cell);
    }
  }

  dispose() {}
}

/** What of a plane is kept between draws: the gray slice, the filled mask and the outlines. */
class PlaneBuffers {
  constructor(plane, image) {
    this.plane = plane;
    this.image = image;
    this.gray = canvasOf(plane);
    this.fill = canvasOf(plane);
    this.outlines = [];
    this.pixels = new ImageData(plane.columns, plane.rows);
    this.colours = new Uint32Array(this.pixels.data.buffer);
    this.values = new image.parts.image.constructor(plane.columns * plane.rows);
    this.labels = new Uint8Array(plane.columns * plane.rows);
    this.drawn = {};
  }

  update(state) {
    const slice = state.index[this.plane.normal];
    this.once("gray", `${slice} ${state.low} ${state.high}`, () => this.paintGray(slice, state));
    const hidden = [...state.hidden].join();
    if (state.showModel && this.image.parts.model) this.once("fill", `${slice} ${hidden}`, () => this.paintFill(slice, state));
    if (state.showReference && this.image.parts.reference) {
      this.once("outlines", `${slice} ${hidden}`, () => this.traceOutlines(slice, state));
    }
  }

  once(what, from, make) {
    if (this.drawn[what] === from) return;
    this.drawn[what] = from;
    make();
  }

  paintGray(slice, state) {
    const { image, plane, colours } = this;
    if (image.header.colour) this.paintColour();
    else {
      const values = plane.copySlice(image.parts.image, slice, this.values);
      const gain = 255 / (state.high - state.low);
      for (let at = 0; at < values.length; at += 1) {
        const level = (values[at] - state.low) * gain + 0.5;
        const gray = level <= 0 ? 0 : level >= 255 ? 255 : level | 0;
        colours[at] = 0xff000000 | (gray * 0x010101);
      }
    }
    this.gray.getContext("2d", IN_MEMORY).putImageData(this.pixels, 0, 0);
  }

  paintColour() {
    const { colours } = this;
    const [voxels, size] = [this.image.parts.image, colours.length];
    for (let at = 0; at < size; at += 1) {
      colours[at] = 0xff000000 | (voxels[at + 2 * size] << 16) | (voxels[at + size] << 8) | voxels[at];
    }
  }

  paintFill(slice, state) {
    const labels = this.plane.copySlice(this.image.parts.model, slice, this.labels);
    const table = this.image.colourTable(state.hidden);
    for (let at = 0; at < labels.length; at += 1) this.colours[at] = table[labels[at]];
    this.fill.getContext("2d", IN_MEMORY).putImageData(this.pixels, 0, 0);
  }

  traceOutlines(slice, state) {
    const labels = this.plane.copySlice(this.image.parts.reference, slice, this.labels);
    this.outlines = this.image.header.structures
      .filter(({ label }) => !state.hidden.has(label))
      .map(({ label, colour }) => [colour, edgesOf(labels, label, this.plane.columns, this.plane.rows)])
      .filter(([, edges]) => edges.length);
  }
}

function canvasOf(plane) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [plane.columns, plane.rows];
  return canvas;
}

/** The pixel edges between a label and everything else, as [column, row, column, row, ...] of corners. */
export function edgesOf(labels, label, columns, rows) {
  const edges = [];
  const inside = (column, row) =>
    column >= 0 && row >= 0 && column < columns && row < rows && labels[row * columns + column] === label;
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      if (labels[row * columns + column] !== label) continue;
      if (!inside(column, row - 1)) edges.push(column, row, column + 1, row);
      if (!inside(column, row + 1)) edges.push(column, row + 1, column + 1, row + 1);
      if (!inside(column - 1, row)) edges.push(column, row, column, row + 1);
      if (!inside(column + 1, row)) edges.push(column + 1, row, column + 1, row + 1);
    }
  }
  return edges;
}

function strokeEdges(context, edges, colour, box, [across, down]) {
  const path = new Path2D();
  for (let at = 0; at < edges.length; at += 4) {
    path.moveTo(box.left + edges[at] * across, box.top + edges[at + 1] * down);
    path.lineTo(box.left + edges[at + 2] * across, box.top + edges[at + 3] * down);
  }
  context.lineCap = "square";
  for (const [width, style] of [[4, "rgba(0, 0, 0, 0.55)"], [2, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke(path);
  }
}

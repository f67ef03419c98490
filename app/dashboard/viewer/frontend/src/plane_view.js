// One plane on the screen: canvas, letters, crosshair, ruler and a slider for its slices.

import { distance } from "./geometry.js";
import { el, svg } from "./dom.js";

const GAP = 9; // pixels left free around the crosshair's centre
const WHEEL_STEP = 40; // of a trackpad's small movements, one slice
const CLICK_SLACK = 4; // pixels a finger may move in a click

export class PlaneView {
  /** `reader` is told what the reader does: move, choose, window, measure, activate. */
  constructor(plane, words, reader) {
    Object.assign(this, { plane, words, reader, box: null, drag: null, turned: 0 });
    this.canvas = el("canvas", { class: "pixels", "aria-hidden": "true" });
    this.lines = ["h1", "h2", "v1", "v2"].map(() => svg("line", { class: "crosshair" }));
    this.ruler = svg("g", { class: "ruler", visibility: "hidden" }, svg("line"), svg("circle", { r: 3 }), svg("circle", { r: 3 }), svg("text"));
    this.marks = svg("svg", { class: "marks", "aria-hidden": "true" }, ...this.lines, this.ruler);
    this.letters = this.makeLetters();
    this.number = el("span", { class: "number" });
    this.position = el("span", { class: "position" });
    this.surface = el("div", { class: "surface", tabindex: "0", role: "application", "aria-label": words[plane.name] });
    this.surface.append(this.canvas, this.marks, ...this.letters);
    this.slider = this.makeSlider();
    const caption = el("figcaption", {}, el("span", { class: "name" }, words[plane.name]), this.number, this.position);
    this.figure = el("figure", { class: "plane", "data-plane": plane.name }, caption, this.surface, this.slider);
    this.listen();
  }

  makeLetters() {
    const letters = this.plane.letters();
    if (!letters) return [];
    return Object.entries(letters).map(([side, text]) => el("span", { class: `letter ${side}`, "data-side": side }, text));
  }

  makeSlider() {
    if (this.plane.slices === 1) return el("div");
    const label = `${this.words[this.plane.name]}: ${this.words.slice.split("{")[0].trim()}`;
    return el("input", {
      type: "range", min: 1, max: this.plane.slices, step: 1, "aria-label": label,
      oninput: (event) => this.reader.scrollTo(this.plane, Number(event.target.value) - 1),
    });
  }

  listen() {
    const { surface, reader, plane } = this;
    surface.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    surface.addEventListener("pointerdown", (event) => this.press(event));
    surface.addEventListener("pointermove", (event) => this.move(event));
    surface.addEventListener("pointerup", (event) => this.release(event));
    surface.addEventListener("pointercancel", () => (this.drag = null));
    surface.addEventListener("contextmenu", (event) => event.preventDefault());
    surface.addEventListener("focus", () => reader.activate(plane));
  }

  wheel(event) {
    if (event.ctrlKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 0 ? event.deltaY : event.deltaY * WHEEL_STEP;
    this.turned += lines;
    const steps = Math.abs(lines) >= WHEEL_STEP ? Math.sign(lines) : Math.trunc(this.turned / WHEEL_STEP);
    if (!steps) return;
    this.turned = 0;
    this.reader.scrollBy(this.plane, -steps);
  }

  press(event) {
    if (event.button > 2 || !this.box) return;
    event.preventDefault();
    this.surface.focus({ preventScroll: true });
    this.surface.setPointerCapture(event.pointerId);
    const tool = event.button === 2 ? "windowing" : this.reader.tool();
    const spot = this.spot(event);
    this.drag = { tool, button: event.button, from: spot, last: [event.clientX, event.clientY], moved: 0 };
    if (tool === "crosshair") this.reader.move(this.plane, this.voxel(spot));
  }

  move(event) {
    const { drag } = this;
    if (!drag) return;
    const step = [event.clientX - drag.last[0], event.clientY - drag.last[1]];
    drag.last = [event.clientX, event.clientY];
    drag.moved += Math.abs(step[0]) + Math.abs(step[1]);
    const spot = this.spot(event);
    if (drag.tool === "crosshair") this.reader.move(this.plane, this.voxel(spot));
    if (drag.tool === "windowing") this.reader.window(step[0], step[1]);
    if (drag.tool === "ruler" && drag.moved > CLICK_SLACK) this.reader.measure(this.plane, drag.from, spot);
  }

  release(event) {
    const { drag } = this;
    this.drag = null;
    if (drag && drag.tool === "crosshair" && drag.button === 0 && drag.moved <= CLICK_SLACK) {
      this.reader.choose(this.plane, this.voxel(this.spot(event)));
    }
  }

  /** Column and row under the pointer, not whole: 0.0 is the centre of the first voxel. */
  spot(event) {
    const bounds = this.surface.getBoundingClientRect();
    const { grid } = this.plane;
    const column = (event.clientX - bounds.left - this.box.left) / (grid.spacing[this.plane.across] * this.box.scale) - 0.5;
    const row = (event.clientY - bounds.top - this.box.top) / (grid.spacing[this.plane.down] * this.box.scale) - 0.5;
    return [clamped(column, -0.5, this.plane.columns - 0.5), clamped(row, -0.5, this.plane.rows - 0.5)];
  }

  /** The voxel at a spot. */
  voxel([column, row]) {
    return [clamped(Math.round(column), 0, this.plane.columns - 1), clamped(Math.round(row), 0, this.plane.rows - 1)];
  }

  /** Fit the plane into its place; `scale` is CSS pixels per millimeter, the same for all planes. */
  fit(scale, ratio) {
    const [width, height] = [this.surface.clientWidth, this.surface.clientHeight];
    this.box = {
      left: (width - this.plane.width * scale) / 2, top: (height - this.plane.height * scale) / 2, scale, ratio,
    };
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    this.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Pixels of a column and row, voxel centres being whole. */
  pixels([column, row]) {
    const { grid } = this.plane;
    return [
      this.box.left + (column + 0.5) * grid.spacing[this.plane.across] * this.box.scale,
      this.box.top + (row + 0.5) * grid.spacing[this.plane.down] * this.box.scale,
    ];
  }

  /** Show slice number, crosshair and ruler. */
  mark(state, isActive) {
    const { plane, words } = this;
    const slice = state.index[plane.normal];
    const text = words.slice.replace("{slice}", slice + 1).replace("{slices}", plane.slices);
    this.number.textContent = plane.slices > 1 ? text : "";
    this.position.textContent = plane.grid.isVolume ? millimeters(plane, state.index) : "";
    this.surface.setAttribute("aria-label", plane.slices > 1 ? `${words[plane.name]}, ${text}` : words[plane.name]);
    this.figure.classList.toggle("active", isActive);
    this.slider.value = slice + 1;
    this.markCrosshair(this.pixels(plane.place(state.index)));
    this.markRuler(state.ruler, slice);
  }

  markCrosshair([x, y]) {
    const { left, top, scale } = this.box;
    const [right, bottom] = [left + this.plane.width * scale, top + this.plane.height * scale];
    const ends = [[left, y, x - GAP, y], [x + GAP, y, right, y], [x, top, x, y - GAP], [x, y + GAP, x, bottom]];
    this.lines.forEach((line, at) => place(line, ends[at]));
  }

  markRuler(ruler, slice) {
    const isHere = ruler && ruler.plane === this.plane.name && ruler.slice === slice;
    this.ruler.setAttribute("visibility", isHere ? "visible" : "hidden");
    if (!isHere) return;
    const [line, start, end, text] = this.ruler.children;
    const [from, to] = [this.pixels(ruler.from), this.pixels(ruler.to)];
    place(line, [...from, ...to]);
    [[start, from], [end, to]].forEach(([circle, [x, y]]) => (circle.setAttribute("cx", x), circle.setAttribute("cy", y)));
    const width = this.surface.clientWidth;
    text.setAttribute("x", clamped(to[0] + 8, 8, width - 70));
    text.setAttribute("y", clamped(to[1] - 8, 16, this.surface.clientHeight - 8));
    text.textContent = this.length(ruler, slice);
  }

  length(ruler, slice) {
    const { plane } = this;
    const [one, other] = [plane.index(...ruler.from, slice), plane.index(...ruler.to, slice)];
    return `${distance(plane.grid, one, other).toFixed(1)} ${plane.grid.calibrated ? "mm" : "px"}`;
  }
}

/** Where a plane lies along the direction it is cut across. */
function millimeters(plane, index) {
  const position = plane.grid.mm(index)[plane.normal];
  const letter = plane.grid.letters(plane.normal, position < 0 ? -1 : 1)[0];
  return `${letter} ${Math.abs(position).toFixed(1)} mm`;
}

function place(line, ends) {
  ["x1", "y1", "x2", "y2"].forEach((name, at) => line.setAttribute(name, ends[at]));
}

export function clamped(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

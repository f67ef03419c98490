// The viewer of one image: its state, and everything that changes it.

import { CanvasEngine } from "./canvas_engine.js";
import { Controls } from "./controls.js";
import { el } from "./dom.js";
import { chooseEngine } from "./engines.js";
import { PlaneView, clamped } from "./plane_view.js";

const PAGE = 5; // slices per Page key
const SLOW = 50; // milliseconds for one draw by niivue ...
const TOO_OFTEN = 5; // ... that many times in a row, and the viewer draws by itself
const OPACITY_STEP = 0.1;
const NARROW = 900; // pixels under which the planes no longer stand side by side
const PLANE_KEYS = { 0: "all_planes", 1: "axial", 2: "coronal", 3: "sagittal" };

export class Viewer {
  constructor(image, tellSelection) {
    const { header, grid } = image;
    Object.assign(this, { image, words: header.words, tellSelection, engine: null, scheduled: false, slowDraws: 0 });
    const [first] = header.windows;
    this.state = {
      index: grid.shape.map((length) => Math.floor((length - 1) / 2)), layout: "all_planes", tool: "crosshair",
      preset: first.name, low: first.low, high: first.high, opacity: header.opacity, showReference: true, showModel: true,
      hidden: new Set(), ruler: null,
    };
    this.state.index = centreOfMasks(image) ?? this.state.index;
    this.active = grid.planes[0];
    this.controls = new Controls(image, this.words, this);
    this.views = grid.planes.map((plane) => new PlaneView(plane, this.words, this));
    this.stage = el("div", { class: "stage" }, ...this.views.map(({ figure }) => figure));
    this.stage.style.setProperty("--height", `${header.height}px`);
    this.root = el(
      "section", { class: `viewer ${header.kind}` },
      this.controls.notes, this.controls.bar, this.stage, this.controls.readout, this.controls.legend, this.controls.foot,
    );
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.resized = new ResizeObserver(() => this.arrange());
  }

  async start() {
    this.resized.observe(this.stage);
    const wanted = await chooseEngine(this.image);
    try {
      this.engine = await wanted.create(this.image, this.stage, () => this.drawWithoutCard());
    } catch (error) {
      console.warn("medfl viewer: niivue could not start, drawing without it.", error);
      this.engine = new CanvasEngine(this.image);
    }
    this.root.dataset.engine = this.engine.name;
    this.arrange();
  }

  /** Go on without niivue: the graphics card is lost or too slow. */
  drawWithoutCard() {
    if (!this.engine || this.engine.name === "canvas") return;
    this.engine.dispose();
    this.engine = new CanvasEngine(this.image);
    this.root.dataset.engine = this.engine.name;
    this.drawSoon();
  }

  /** Notice when niivue is too slow on this machine. */
  watch(milliseconds) {
    this.slowDraws = milliseconds > SLOW ? this.slowDraws + 1 : 0;
    if (this.slowDraws >= TOO_OFTEN && this.image.header.engine === "auto") this.drawWithoutCard();
  }

  dispose() {
    this.resized.disconnect();
    this.engine?.dispose();
  }

  /** Planes that are shown now. */
  shown() {
    return this.views.filter(({ plane }) => this.state.layout === "all_planes" || plane.name === this.state.layout);
  }

  /** Give every shown plane its place, all at one scale. */
  arrange() {
    const shown = this.shown();
    for (const view of this.views) view.figure.hidden = !shown.includes(view);
    const isNarrow = this.stage.clientWidth < NARROW && shown.length > 1;
    this.stage.classList.toggle("narrow", isNarrow);
    this.stage.classList.toggle("single", shown.length === 1);
    this.stage.style.gridTemplateColumns = shown.length > 1 && !isNarrow ? columnsFor(shown) : "";
    if (!this.stage.clientWidth) return;
    const scale = Math.min(...shown.map(({ plane, surface }) =>
      Math.min((surface.clientWidth - 4) / plane.width, (surface.clientHeight - 4) / plane.height)));
    for (const view of shown) view.fit(scale, window.devicePixelRatio || 1);
    this.draw();
  }

  /** Set parts of the state and draw soon. */
  change(changes) {
    const isArranged = !("layout" in changes) || changes.layout === this.state.layout;
    Object.assign(this.state, changes);
    if (isArranged) this.drawSoon();
    else {
      this.arrange();
      this.activateShown();
    }
  }

  /** Let the keys go on working when the plane that had them is hidden now. */
  activateShown() {
    const hadFocus = this.stage.matches(":focus-within") || this.root.getRootNode().activeElement === null;
    const shown = this.shown();
    const active = shown.find(({ plane }) => plane === this.active) ?? shown[0];
    this.active = active.plane;
    if (hadFocus) active.surface.focus({ preventScroll: true });
    this.drawSoon();
  }

  drawSoon() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    this.controls.show(this.state);
    const shown = this.shown().filter(({ box }) => box);
    for (const view of shown) view.mark(this.state, view.plane === this.active);
    if (!this.engine) return;
    const start = performance.now();
    this.engine.draw(shown, this.state);
    this.root.dataset.ready = "true";
    this.watch(performance.now() - start);
  }

  tool() {
    return this.state.tool;
  }

  activate(plane) {
    this.active = plane;
    this.drawSoon();
  }

  scrollBy(plane, steps) {
    this.scrollTo(plane, this.state.index[plane.normal] + steps);
  }

  scrollTo(plane, slice) {
    const index = [...this.state.index];
    index[plane.normal] = clamped(slice, 0, plane.slices - 1);
    this.active = plane;
    this.change({ index });
  }

  /** Put the crosshair on the voxel at a column and row of a plane. */
  move(plane, [column, row]) {
    this.change({ index: plane.index(column, row, this.state.index[plane.normal]) });
  }

  /** A click: tell the server where. */
  choose(plane, [column, row]) {
    const index = plane.index(column, row, this.state.index[plane.normal]);
    this.tellSelection({ digest: this.image.header.digest, plane: plane.name, mm: this.image.grid.mm(index).map(tidyMillimeter) });
  }

  /** Drag: to the right wider, down darker, as on a workstation. */
  window(right, down) {
    if (this.image.header.colour) return;
    const { low, high } = this.state;
    const [start] = this.image.header.windows.filter(({ name }) => name === "full_range");
    const unit = (start.high - start.low) / 500;
    const width = Math.max(unit / 4, high - low + right * unit);
    const level = (low + high) / 2 + down * unit;
    this.change({ preset: "manual", low: level - width / 2, high: level + width / 2 });
  }

  measure(plane, from, to) {
    this.change({ ruler: { plane: plane.name, slice: this.state.index[plane.normal], from, to } });
  }

  preset(name) {
    const found = this.image.header.windows.find((window) => window.name === name);
    this.change(found ? { preset: name, low: found.low, high: found.high } : { preset: "manual" });
  }

  toggle(label) {
    const hidden = new Set(this.state.hidden);
    if (!hidden.delete(label)) hidden.add(label);
    this.change({ hidden });
  }

  key(event) {
    const path = event.composedPath();
    const isTyping = path[0] instanceof HTMLElement && path[0].matches("input, select, textarea");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!this.pressed(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Do what a key asks for; false when it asks for nothing. */
  pressed(key) {
    const { state, active } = this;
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: PAGE, PageDown: -PAGE };
    const names = this.image.header.windows.map(({ name }) => name);
    const isVolume = this.image.grid.isVolume;
    const lower = key.length === 1 ? key.toLowerCase() : key;
    if (isVolume && key in steps) this.scrollBy(active, steps[key]);
    else if (isVolume && key === "Home") this.scrollTo(active, 0);
    else if (isVolume && key === "End") this.scrollTo(active, active.slices - 1);
    else if (isVolume && key in PLANE_KEYS) this.change({ layout: PLANE_KEYS[key] });
    else if (lower === "w") this.preset(names[(names.indexOf(state.preset) + 1) % names.length]);
    else if (lower === "m") this.change({ showModel: !(state.showModel || state.showReference), showReference: !(state.showModel || state.showReference) });
    else if (key === "+" || key === "=") this.change({ opacity: clamped(state.opacity + OPACITY_STEP, 0, 1) });
    else if (key === "-") this.change({ opacity: clamped(state.opacity - OPACITY_STEP, 0, 1) });
    else if (lower === "d") this.change({ tool: state.tool === "ruler" ? "crosshair" : "ruler" });
    else if (key === "Escape") this.change({ ruler: null, tool: "crosshair" });
    else return false;
    return true;
  }
}

/** A position to a thousandth of a millimeter. */
function tidyMillimeter(value) {
  return Math.round(value * 1000) / 1000;
}

/** Columns as wide as the planes are, within reason. */
function columnsFor(views) {
  const widths = views.map(({ plane }) => plane.width);
  const mean = widths.reduce((sum, width) => sum + width, 0) / widths.length;
  return widths.map((width) => `minmax(0, ${clamped(width / mean, 0.7, 1.5).toFixed(3)}fr)`).join(" ");
}

/** The voxel nearest to the centre of all structures, so that the first look shows them; null without a mask. */
function centreOfMasks(image) {
  const voxels = image.parts.model ?? image.parts.reference;
  if (!voxels) return null;
  const [width, height] = image.grid.shape;
  const sum = [0, 0, 0];
  let count = 0;
  for (let at = 0; at < voxels.length; at += 1) {
    if (!voxels[at]) continue;
    sum[0] += at % width;
    sum[1] += Math.floor(at / width) % height;
    sum[2] += Math.floor(at / (width * height));
    count += 1;
  }
  return count ? sum.map((total) => Math.round(total / count)) : null;
}

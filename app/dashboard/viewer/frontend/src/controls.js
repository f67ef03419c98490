// The row of controls above the image, and what stands below it.

import { el } from "./dom.js";
import { positionText } from "./geometry.js";

export class Controls {
  /** `viewer` has the state; its `change(changes)` sets it and draws. */
  constructor(image, words, viewer) {
    Object.assign(this, { image, words, viewer });
    const { header } = image;
    this.layouts = image.grid.isVolume ? this.choices("layout", ["all_planes", "axial", "coronal", "sagittal"]) : null;
    this.tools = this.choices("tool", header.colour ? ["crosshair", "ruler"] : ["crosshair", "ruler", "windowing"]);
    this.windowing = header.colour ? null : this.makeWindowing();
    this.masks = header.parts.reference || header.parts.model ? this.makeMasks() : null;
    this.bar = el("div", { class: "bar" }, this.group("planes", this.layouts), this.group("tool", this.tools), this.windowing, this.masks);
    this.legend = this.makeLegend();
    this.readout = el("div", { class: "readout", "data-part": "readout" });
    this.notes = el("div", { class: "notes", role: "note" }, ...header.notes.map((note) => el("p", {}, note)));
    this.keys = el("details", { class: "keys" }, el("summary", {}, words.keys), el("p", {}, words[`keys_${header.kind}`]));
    this.foot = el("div", { class: "foot" }, this.keys, el("span", { class: "research" }, words.research_use_only));
  }

  group(name, content) {
    return content && el("div", { class: "group", role: "group", "aria-label": this.words[name] }, content);
  }

  choices(setting, values) {
    const buttons = values.map((value) =>
      el("button", { type: "button", "data-value": value, onclick: () => this.viewer.change({ [setting]: value }) }, this.words[value]),
    );
    return el("div", { class: "choices", "data-setting": setting }, ...buttons);
  }

  makeWindowing() {
    const { words, viewer } = this;
    const names = [...this.image.header.windows.map(({ name }) => name), "manual"];
    this.preset = el(
      "select",
      { "aria-label": words.window, "data-part": "preset", onchange: (event) => viewer.preset(event.target.value) },
      ...names.map((name) => el("option", { value: name }, words[name] ?? name)),
    );
    const number = (part) =>
      el("input", { type: "number", step: "any", "aria-label": words[part], "data-part": part, onchange: () => this.typed() });
    [this.width, this.level] = [number("width"), number("level")];
    return el(
      "div", { class: "group window", role: "group", "aria-label": words.window },
      el("label", {}, words.window, this.preset), el("label", { title: words.width }, "W", this.width), el("label", { title: words.level }, "L", this.level),
    );
  }

  typed() {
    const [width, level] = [Number(this.width.value), Number(this.level.value)];
    if (width > 0 && Number.isFinite(level)) this.viewer.change({ preset: "manual", low: level - width / 2, high: level + width / 2 });
  }

  makeMasks() {
    const { words, viewer, image } = this;
    const box = (name, setting) => {
      if (!image.header.parts[name]) return null;
      const input = el("input", { type: "checkbox", "data-part": name, onchange: (event) => viewer.change({ [setting]: event.target.checked }) });
      this[setting] = input;
      return el("label", {}, input, words[name]);
    };
    const shown = [box("reference", "showReference"), box("model", "showModel")];
    this.opacity = el("input", {
      type: "range", min: 0, max: 100, step: 5, "aria-label": words.opacity, "data-part": "opacity",
      oninput: (event) => viewer.change({ opacity: Number(event.target.value) / 100 }),
    });
    const slider = image.header.parts.model ? el("label", {}, words.opacity, this.opacity) : null;
    return el("div", { class: "group masks", role: "group", "aria-label": words.masks }, ...shown, slider);
  }

  makeLegend() {
    const { image, words, viewer } = this;
    const chips = image.header.structures.map(({ label, name, colour }) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = colour;
      return el("button", { type: "button", class: "chip", "data-label": label, onclick: () => viewer.toggle(label) }, swatch, name);
    });
    const shown = image.header.parts.reference || image.header.parts.model ? chips : [];
    return el("div", { class: "legend", role: "group", "aria-label": words.structures }, ...shown);
  }

  /** Show the state. */
  show(state) {
    for (const choices of [this.layouts, this.tools].filter(Boolean)) {
      for (const button of choices.children) {
        button.setAttribute("aria-pressed", String(button.dataset.value === state[choices.dataset.setting]));
      }
    }
    if (this.windowing) {
      this.preset.value = state.preset;
      fillUnlessTyped(this.width, tidy(state.high - state.low));
      fillUnlessTyped(this.level, tidy((state.low + state.high) / 2));
    }
    if (this.showReference) this.showReference.checked = state.showReference;
    if (this.showModel) this.showModel.checked = state.showModel;
    if (this.opacity) this.opacity.value = Math.round(state.opacity * 100);
    for (const chip of this.legend.children) chip.setAttribute("aria-pressed", String(!state.hidden.has(Number(chip.dataset.label))));
    this.readout.textContent = this.reading(state);
  }

  reading(state) {
    const { image, words } = this;
    const value = image.value(state.index);
    const names = ["reference", "model"].flatMap((mask) => {
      const found = image.header.structures.find(({ label }) => label === image.label(mask, state.index));
      return found ? [`${words[mask]}: ${found.name}`] : [];
    });
    const where = positionText(image.grid, state.index) ?? `${words.pixel} ${state.index[0]}, ${state.index[1]}`;
    return [where, `${words.value} ${Array.isArray(value) ? value.join(" ") : tidy(value)}`, ...names].join("  ·  ");
  }
}

/** Show a number, but never over what somebody is typing. */
function fillUnlessTyped(input, text) {
  if (input.getRootNode().activeElement !== input) input.value = text;
}

/** A number with at most four significant digits after the point, without needless zeros. */
export function tidy(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 4;
  return String(Number(value.toFixed(digits)));
}

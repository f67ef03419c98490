// Draws all planes of a volume with niivue on one WebGL canvas that lies behind them.

import { NVImage, Niivue, SLICE_TYPE } from "@niivue/niivue";
import { el } from "./dom.js";
import { niftiFile } from "./nifti_file.js";

const SLICE_TYPES = { axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL };
const BACKGROUND = [11 / 255, 14 / 255, 18 / 255, 1];

export class NiivueEngine {
  /** `lost` is called when the graphics card gives up. */
  static async create(image, stage, lost) {
    const engine = new NiivueEngine(image, stage);
    await engine.load();
    engine.canvas.addEventListener("webglcontextlost", () => engine.isDisposed || lost());
    return engine;
  }

  constructor(image, stage) {
    this.name = "niivue";
    Object.assign(this, { image, stage, drawn: {}, isDisposed: false });
    this.canvas = el("canvas", { class: "shared", "aria-hidden": "true" });
    this.host = el("div", { class: "behind" }, this.canvas);
    stage.prepend(this.host);
    this.niivue = new Niivue({
      interactive: false, dragAndDropEnabled: false, isResizeCanvas: false, forceDevicePixelRatio: -1, logLevel: "error",
      loadingText: "", backColor: BACKGROUND, crosshairWidth: 0, show3Dcrosshair: false, isOrientationTextVisible: false,
      isColorbar: false, isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: false,
    });
  }

  async load() {
    const { image, niivue } = this;
    const { shape, spacing } = image.grid;
    const file = async (name) => NVImage.new(niftiFile(image.parts[name], shape, spacing, name !== "image"), `${name}.nii`, "gray", 1);
    try {
      await niivue.attachToCanvas(this.canvas, false);
      niivue.addVolume(await file("image"));
      if (image.parts.model) niivue.addVolume(await file("model"));
      if (image.parts.reference && !niivue.loadDrawing(await file("reference"))) {
        throw new Error("The reference mask does not fit the image.");
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  draw(targets, state) {
    const { niivue, canvas, stage } = this;
    const ratio = targets[0].box.ratio;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    this.colour(state);
    niivue.customLayout = targets.map((view) => ({ sliceType: SLICE_TYPES[view.plane.name], position: this.placeOf(view, width, height) }));
    niivue.scene.crosshairPos = state.index.map((number, axis) => (number + 0.5) / this.image.grid.shape[axis]);
    niivue.overlayAlphaShader = state.showModel ? state.opacity : 0;
    niivue.drawRimOpacity = state.showReference ? 1 : 0;
    niivue.drawScene();
  }

  /** Left, top, width and height of a plane as shares of the stage. */
  placeOf({ plane, surface, box }, width, height) {
    const [outer, inner] = [this.stage.getBoundingClientRect(), surface.getBoundingClientRect()];
    const left = inner.left - outer.left - this.stage.clientLeft + box.left;
    const top = inner.top - outer.top - this.stage.clientTop + box.top;
    return [left / width, top / height, (plane.width * box.scale) / width, (plane.height * box.scale) / height];
  }

  /** Give window and colours to niivue, which works on the whole volume then: only when they changed. */
  colour(state) {
    const { niivue, image, drawn } = this;
    const hidden = [...state.hidden].join();
    const isRewindowed = drawn.low !== state.low || drawn.high !== state.high;
    const isRecoloured = drawn.hidden !== hidden;
    Object.assign(drawn, { low: state.low, high: state.high, hidden });
    if (isRewindowed) [niivue.volumes[0].cal_min, niivue.volumes[0].cal_max] = [state.low, state.high];
    if (isRecoloured) {
      const table = image.colourTable(state.hidden);
      niivue.volumes[1]?.setColormapLabel(colormap(table));
      niivue.setCustomSliceShader(sliceShader(image.header.structures.filter(({ label }) => !state.hidden.has(label))));
    } else if (isRewindowed) niivue.updateGLVolume();
  }

  dispose() {
    this.isDisposed = true;
    this.niivue.cleanup();
    this.niivue._gl?.getExtension("WEBGL_lose_context")?.loseContext();
    this.host.remove();
  }
}

/** niivue's form of a table of colours. */
function colormap(table) {
  const channel = (shift) => Array.from(table, (colour) => (colour >>> shift) & 0xff);
  return { R: channel(0), G: channel(8), B: channel(16), A: channel(24), I: Array.from(table, (_, label) => label) };
}

/** The program for one point of a plane: gray image, filled model, outlined reference with a dark rim. */
function sliceShader(structures) {
  const colours = structures.map(({ label, colour }) => {
    const part = (at) => (Number.parseInt(colour.slice(at, at + 2), 16) / 255).toFixed(4);
    return `if (label == ${label}) return vec4(${part(1)}, ${part(3)}, ${part(5)}, 1.0);`;
  });
  return `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D overlay;
uniform highp sampler3D drawing;
uniform float overlayAlphaShader;
uniform float drawRimOpacity;
uniform float overlays;
in vec3 texPos;
out vec4 color;
int labelAt(vec3 place) {
  if (any(lessThan(place, vec3(0.0))) || any(greaterThan(place, vec3(1.0)))) return 0;
  return int(texture(drawing, place).r * 255.0 + 0.5);
}
vec4 tint(int label) {
  ${colours.join("\n  ")}
  return vec4(0.0);
}
void main() {
  color = vec4(texture(volume, texPos).rgb, 1.0);
  if (overlays > 0.0) {
    ivec3 size = textureSize(overlay, 0);
    vec4 fill = texelFetch(overlay, clamp(ivec3(texPos * vec3(size)), ivec3(0), size - 1), 0);
    color.rgb = mix(color.rgb, fill.rgb, fill.a * overlayAlphaShader);
  }
  if (drawRimOpacity <= 0.0) return;
  vec3 right = dFdx(texPos);
  vec3 up = dFdy(texPos);
  int here = labelAt(texPos);
  vec4 line = vec4(0.0);
  bool isRim = false;
  for (int far = 2; far >= 1; far--) {
    for (int side = 0; side < 4; side++) {
      vec3 step = (side < 2 ? right : up) * float(side % 2 == 0 ? far : -far);
      int there = labelAt(texPos + step);
      if (there == here) continue;
      vec4 own = tint(here);
      vec4 other = tint(there);
      if (own.a + other.a == 0.0) continue;
      isRim = true;
      if (far == 1) line = own.a > 0.0 ? own : other;
    }
  }
  if (line.a > 0.0) color.rgb = line.rgb;
  else if (isRim) color.rgb *= 0.45;
}`;
}

// Who draws: niivue on a graphics card, this viewer's own code everywhere else.

import { CanvasEngine } from "./canvas_engine.js";

const PLAYED_BY_A_PROGRAM = /swiftshader|llvmpipe|softpipe|software|basic render/i;
const LARGEST_ON_THE_CARD = 2 ** 24; // voxels; niivue keeps several copies with four bytes per voxel

/** Return the engine for an image; niivue is loaded only when it is taken. */
export async function chooseEngine(image) {
  const { header, grid } = image;
  const voxels = grid.shape.reduce((product, length) => product * length, 1);
  const isWanted = header.engine === "niivue" || (header.engine === "auto" && voxels <= LARGEST_ON_THE_CARD && hasGraphicsCard());
  if (!grid.isVolume || !isWanted) return CanvasEngine;
  const { NiivueEngine } = await import("./niivue_engine.js");
  return NiivueEngine;
}

/** Tell whether WebGL 2 is there and drawn by hardware. */
export function hasGraphicsCard() {
  const context = document.createElement("canvas").getContext("webgl2");
  if (!context) return false;
  const details = context.getExtension("WEBGL_debug_renderer_info");
  const renderer = String(context.getParameter(details ? details.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  context.getExtension("WEBGL_lose_context")?.loseContext();
  return !PLAYED_BY_A_PROGRAM.test(renderer);
}

// What Streamlit calls: once when the element appears, and again whenever the page ran.

import { el } from "./dom.js";
import { Image } from "./image.js";
import style from "./style.css";
import { Viewer } from "./viewer.js";
import { readHeader, readParts } from "./wire.js";

const mounted = new WeakMap();

export default function show({ data, parentElement, setStateValue }) {
  const message = readHeader(data);
  const place = mounted.get(parentElement) ?? mount(parentElement);
  place.tellSelection = (selection) => setStateValue("selection", selection);
  const text = JSON.stringify(message.header);
  if (place.text !== text) {
    place.text = text;
    fill(place, message);
  }
  return () => remove(parentElement);
}

function mount(parentElement) {
  const host = el("div", { class: "medfl-viewer" });
  parentElement.append(el("style", {}, style), host);
  const place = { host, text: null, viewer: null, turn: 0 };
  mounted.set(parentElement, place);
  return place;
}

async function fill(place, message) {
  const turn = (place.turn += 1);
  const { words } = message.header;
  if (!place.viewer) place.host.replaceChildren(el("p", { class: "loading", role: "status" }, words.loading));
  try {
    const viewer = new Viewer(new Image(message.header, await readParts(message)), (selection) => place.tellSelection(selection));
    if (turn !== place.turn) return;
    place.viewer?.dispose();
    place.viewer = viewer;
    place.host.replaceChildren(viewer.root);
    await viewer.start();
  } catch (error) {
    place.host.replaceChildren(el("p", { class: "failed", role: "alert" }, `${words.failed} ${error.message}`));
    throw error;
  }
}

function remove(parentElement) {
  const place = mounted.get(parentElement);
  if (!place) return;
  place.turn += 1;
  place.viewer?.dispose();
  parentElement.replaceChildren();
  mounted.delete(parentElement);
}

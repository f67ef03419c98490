// Takes apart the message that wire.py packs: a JSON header, then raw voxels.

const TYPES = { u8: Uint8Array, u16: Uint16Array, i16: Int16Array, f32: Float32Array };
const ALIGNMENT = 8;

/** Return the header of a message and where its parts begin. */
export function readHeader(message) {
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return { header, bytes, start: Math.ceil((4 + length) / ALIGNMENT) * ALIGNMENT };
}

/** Return the voxels of every part, each in an array of its own: {image, reference?, model?}. */
export async function readParts({ header, bytes, start }) {
  const parts = {};
  for (const [name, part] of Object.entries(header.parts)) {
    let content = bytes.slice(start + part.offset, start + part.offset + part.length);
    if (part.deflated) content = await inflated(content);
    parts[name] = new TYPES[part.type](content.buffer, content.byteOffset, content.byteLength / TYPES[part.type].BYTES_PER_ELEMENT);
  }
  return parts;
}

async function inflated(content) {
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

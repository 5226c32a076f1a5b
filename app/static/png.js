// What PNGs of difuso say about themselves.

const MAGIC = [0x89, 0x50, 0x4e, 0x47];

// Resolves to the JSON in the iTXt chunk `difuso` of a PNG; undefined without one.
export async function readRecipe(file) {
  const buffer = await file.arrayBuffer();
  const bytes = new Uint8Array(buffer);
  if (!MAGIC.every((byte, index) => bytes[index] === byte)) return undefined;
  const view = new DataView(buffer);
  for (let at = 8; at + 12 <= buffer.byteLength; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    // Keyword, 0, not compressed, method, language, 0, translated keyword, 0, text: PNG, section 11.3.3.4.
    if (type === "iTXt" && new TextDecoder().decode(content.subarray(0, 9)) === "difuso\0\0\0") {
      const text = content.subarray(content.indexOf(0, content.indexOf(0, 9) + 1) + 1);
      return JSON.parse(new TextDecoder().decode(text));
    }
    at += 12 + length;
  }
  return undefined;
}

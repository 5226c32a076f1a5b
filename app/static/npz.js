// Reads NumPy's .npz files as the server writes them: a zip archive, not compressed, of arrays in the .npy format.

const TYPES = { "<f4": Float32Array, "<f8": Float64Array, "|u1": Uint8Array, "<u2": Uint16Array, "<i8": BigInt64Array };
const END = 0x06054b50; // of the archive's directory

// Returns the arrays by name, each as {shape, data}.
export function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (view.getUint32(end, true) !== END) end--;
  const arrays = new Map();
  let entry = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [nameLength, extra, comment] = [28, 30, 32].map(offset => view.getUint16(entry + offset, true));
    const name = new TextDecoder().decode(new Uint8Array(buffer, entry + 46, nameLength));
    const header = view.getUint32(entry + 42, true);
    const start = header + 30 + view.getUint16(header + 26, true) + view.getUint16(header + 28, true);
    arrays.set(name.replace(/\.npy$/, ""), readNpy(buffer, start, view.getUint32(entry + 20, true)));
    entry += 46 + nameLength + extra + comment;
  }
  return arrays;
}

function readNpy(buffer, start, size) {
  const length = new DataView(buffer, start).getUint16(8, true);
  const text = new TextDecoder("latin1").decode(new Uint8Array(buffer, start + 10, length));
  const shape = text.match(/'shape': \(([^)]*)\)/)[1].split(",").filter(part => part.trim()).map(Number);
  const type = TYPES[text.match(/'descr': '([^']*)'/)[1]];
  return { shape, data: new type(buffer.slice(start + 10 + length, start + size)) };
}

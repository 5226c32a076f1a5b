// Pictures as floats in [-1, 1], of one channel or three, the channels of each pixel side by side; and arrays as .npz.

// Shows such numbers, from a place on, in a context; they are clamped and rounded.
export function paint(context, data, channels, from = 0) {
  const { width, height } = context.canvas;
  const pixels = context.createImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++, from += channels) {
    for (let channel = 0; channel < 3; channel++) pixels.data[4 * pixel + channel] = (data[from + (channels === 1 ? 0 : channel)] + 1) * 127.5;
    pixels.data[4 * pixel + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

// Reads the numbers back from a context that shows whole grey levels.
export function floatsOf(context, channels) {
  const { width, height } = context.canvas;
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: width * height * channels }, (_, index) => data[4 * Math.floor(index / channels) + (index % channels)] / 127.5 - 1);
}

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

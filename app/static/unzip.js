// Reads zip archives: the files in one of the reader's, and the arrays in an .npz of the server.

import { t } from "./texts.js";

const [END, END_SIZE, COMMENT, LARGE] = [0x06054b50, 22, 65535, 0xffffffff]; // APPNOTE.TXT, section 4.3.16
const [ENTRY, ENTRY_SIZE, HEAD_SIZE, DEFLATED] = [0x02014b50, 46, 30, 8]; // sections 4.3.12, 4.3.7 and 4.4.5
const TYPES = { "<f4": Float32Array, "<f8": Float64Array, "|u1": Uint8Array, "<u2": Uint16Array, "<i8": BigInt64Array };

// Resolves to the files in an archive; of files with the same content `same` is the same.
export async function entriesOf(file) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - END_SIZE - COMMENT)).arrayBuffer());
  let at = tail.byteLength - END_SIZE;
  while (at >= 0 && tail.getUint32(at, true) !== END) at--;
  if (at < 0) throw new Error(t("trainNoZip"));
  const [size, from] = [12, 16].map(offset => tail.getUint32(at + offset, true));
  if (from === LARGE) throw new Error(t("trainZip64"));
  const view = new DataView(await file.slice(from, from + size).arrayBuffer());
  const entries = [];
  for (let entry = 0; entry + ENTRY_SIZE <= view.byteLength && view.getUint32(entry, true) === ENTRY; ) {
    const [method, length, extra, comment] = [10, 28, 30, 32].map(offset => view.getUint16(entry + offset, true));
    const [crc, packed, unpacked, start] = [16, 20, 24, 42].map(offset => view.getUint32(entry + offset, true));
    const name = new TextDecoder().decode(new Uint8Array(view.buffer, entry + ENTRY_SIZE, Math.min(length, view.byteLength - entry - ENTRY_SIZE)));
    entries.push({ name, same: `${crc} ${unpacked}`, open: () => opened(file, start, packed, method) });
    entry += ENTRY_SIZE + length + extra + comment;
  }
  return entries;
}

async function opened(file, start, packed, method) {
  const head = new DataView(await file.slice(start, start + HEAD_SIZE).arrayBuffer());
  const from = start + HEAD_SIZE + head.getUint16(26, true) + head.getUint16(28, true);
  const part = file.slice(from, from + packed);
  return method === DEFLATED ? new Response(part.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob() : part;
}

// Resolves to the arrays by name, each as {shape, data}.
export async function readNpz(blob) {
  const named = (await entriesOf(blob)).map(async ({ name, open }) => [name.replace(/\.npy$/, ""), arrayIn(await (await open()).arrayBuffer())]);
  return new Map(await Promise.all(named));
}

function arrayIn(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const text = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const shape = text.match(/'shape': \(([^)]*)\)/)[1].split(",").filter(part => part.trim()).map(Number);
  const type = TYPES[text.match(/'descr': '([^']*)'/)[1]];
  return { shape, data: new type(buffer, 10 + length) };
}

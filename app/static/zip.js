// Writes a zip archive of files that are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Returns numbers as bytes, the lowest first; each is a pair of a value and its size.
const header = (...numbers) => Uint8Array.from(numbers.flatMap(([value, size]) => Array.from({ length: size }, (_, at) => value / 256 ** at)));

// Resolves to an archive of files of different names. The format: APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.
export async function zipOf(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const file of files) {
    const [name, bytes] = [new TextEncoder().encode(file.name), new Uint8Array(await file.arrayBuffer())];
    const facts = [[20, 2], [0x800, 2], [0, 2], [0, 2], [33, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [name.length, 2], [0, 2]];
    const local = header([0x04034b50, 4], ...facts);
    parts.push(local, name, bytes);
    directory.push(header([0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), name);
    offset += local.length + name.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = header([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Photographs that are larger than the server takes are made smaller here. Their shape stays, so the server fits them as it
// would have fitted the photograph itself.

import { el } from "./dom.js";

const MOST_PIXELS = 2048 * 2048; // that the server decodes: jobs/images/fitting.py
const MOST_SIDE = 8192;
const MOST_BYTES = 2 ** 22; // two of them fit into a request
const SMALLER = 2 ** 20; // pixels: many more than any model draws, and as a PNG few enough bytes

// Resolves to a file that the server takes, upright; to the same file if it takes that, or if it is not a picture.
export async function shrunk(file) {
  if (!file.type.startsWith("image/")) return file;
  const bitmap = await createImageBitmap(file).catch(() => undefined);
  if (!bitmap) return file; // the server says what is wrong with it
  const { width, height } = bitmap;
  if (width * height <= MOST_PIXELS && Math.max(width, height) <= MOST_SIDE && file.size <= MOST_BYTES) return file;
  const scale = Math.min(1, Math.sqrt(SMALLER / (width * height)), MOST_SIDE / Math.max(width, height));
  const [across, down] = [width, height].map(side => Math.max(1, Math.round(side * scale)));
  const canvas = el("canvas", { width: across, height: down });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, across, down);
  const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png", lastModified: file.lastModified });
}

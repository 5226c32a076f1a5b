// The pictures that can be noised: those of the model's sheet, those of the gallery, or one that is drawn.

import { ask, request } from "../api.js";
import { el } from "../dom.js";
import { sidesOf } from "../models.js";
import { cellsOf } from "../sheets.js";

const OF_SHEET = 6;
const OF_GALLERY = 6;

// Returns a canvas of the model's size with a picture on it.
export function canvasOf(model, bitmap) {
  const [width, height] = sidesOf(model);
  const canvas = el("canvas", { width, height });
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  return canvas;
}

export const read = async (model, path) => canvasOf(model, await createImageBitmap(await (await request(path)).blob()));

// Resolves to canvases of the model's size.
export async function picturesOf(model) {
  const { jobs } = await ask("GET", `/jobs?limit=20&state=succeeded&kind=generate&model=${model}`);
  const alive = jobs.filter(job => job.links.images && !job.task?.upscale && Date.parse(job.expires_at) > Date.now());
  const paths = alive.flatMap(job => job.links.images).slice(0, OF_GALLERY);
  const found = await Promise.allSettled(paths.map(path => read(model, path)));
  return [...(await cellsOf(model, OF_SHEET)), ...found.flatMap(({ value }) => value ?? [])];
}

// The sheets of the models: samples that show at a glance what each draws.

import { request } from "./api.js";
import { el } from "./dom.js";
import { models, sidesOf } from "./models.js";
import { t } from "./texts.js";

const GAP = 2; // pixels between the pictures of a sheet
const found = new Map(); // a promise of each model's sheet

// Resolves to the sheet of a model as a bitmap; undefined if it has none.
function sheetOf(name) {
  if (!models.get(name)?.documents?.includes("sheet")) return Promise.resolve();
  const read = () => request(`/models/${name}/figures/sheet`).then(response => response.blob()).then(createImageBitmap).catch(() => {});
  if (!found.has(name)) found.set(name, read());
  return found.get(name);
}

// Returns a canvas with the first pictures of a model's sheet; of a model without one it stays blank.
export function samplesOf(name, columns, rows) {
  const [across, down] = sidesOf(name);
  const canvas = el("canvas", { className: "samples", role: "img", "aria-label": t("samples", name) });
  canvas.width = columns * (across + GAP) - GAP;
  canvas.height = rows * (down + GAP) - GAP;
  sheetOf(name).then(sheet => sheet && canvas.getContext("2d").drawImage(sheet, 0, 0));
  return canvas;
}

// Resolves to the first pictures of a model's sheet, each as a canvas of the model's size.
export async function cellsOf(name, most) {
  const sheet = await sheetOf(name);
  const [width, height] = sidesOf(name);
  if (!sheet) return [];
  const columns = Math.floor((sheet.width + GAP) / (width + GAP));
  const count = Math.min(most, columns * Math.floor((sheet.height + GAP) / (height + GAP)));
  return Array.from({ length: count }, (_, index) => {
    const canvas = el("canvas", { width, height });
    const [x, y] = [(index % columns) * (width + GAP), Math.floor(index / columns) * (height + GAP)];
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(sheet, -x, -y);
    return canvas;
  });
}

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

// Returns where the pictures of a sheet begin, and how many there are: {from, columns, rows}. Some sheets have a margin.
function layoutOf(sheet, name) {
  const [width, height] = sidesOf(name);
  const layouts = [0, GAP].map(from => ({
    from,
    columns: (sheet.width + GAP - 2 * from) / (width + GAP),
    rows: (sheet.height + GAP - 2 * from) / (height + GAP),
  }));
  return layouts.find(({ columns, rows }) => Number.isInteger(columns) && Number.isInteger(rows));
}

// Returns a canvas with the first pictures of a model's sheet; of a model without one it stays blank.
export function samplesOf(name, columns, rows) {
  const [across, down] = sidesOf(name);
  const canvas = el("canvas", { className: "samples", role: "img", "aria-label": t("samples", name) });
  canvas.width = columns * (across + GAP) - GAP;
  canvas.height = rows * (down + GAP) - GAP;
  sheetOf(name).then(sheet => {
    const from = (sheet && layoutOf(sheet, name)?.from) ?? 0;
    if (sheet) canvas.getContext("2d").drawImage(sheet, -from, -from);
  });
  return canvas;
}

// Resolves to the first pictures of a model's sheet, each as a canvas of the model's size; none if it is not of such pictures.
export async function cellsOf(name, most) {
  const sheet = await sheetOf(name);
  const layout = sheet && layoutOf(sheet, name);
  if (!layout) return [];
  const [width, height] = sidesOf(name);
  return Array.from({ length: Math.min(most, layout.columns * layout.rows) }, (_, index) => {
    const canvas = el("canvas", { width, height });
    const [x, y] = [(index % layout.columns) * (width + GAP), Math.floor(index / layout.columns) * (height + GAP)];
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(sheet, -layout.from - x, -layout.from - y);
    return canvas;
  });
}

// The sheets of the models: samples that show at a glance what each draws.

import { request } from "./api.js";
import { el } from "./dom.js";
import { models, sidesOf } from "./models.js";
import { readRecipe } from "./png.js";
import { t } from "./texts.js";

const GAP = 2; // pixels between the pictures of a sheet
const found = new Map(); // a promise of each model's sheet

async function read(name) {
  const blob = await (await request(`/models/${name}/figures/sheet`)).blob();
  const [bitmap, recipe] = await Promise.all([createImageBitmap(blob), readRecipe(blob)]);
  return { bitmap, samples: recipe?.samples };
}

// Resolves to the sheet of a model as {bitmap, samples}, where the sheet says how its samples were drawn; undefined without one.
function sheetOf(name) {
  if (!models.get(name)?.documents?.includes("sheet")) return Promise.resolve();
  if (!found.has(name)) found.set(name, read(name).catch(() => void found.delete(name)));
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
    const from = (sheet && layoutOf(sheet.bitmap, name)?.from) ?? 0;
    if (sheet) canvas.getContext("2d").drawImage(sheet.bitmap, -from, -from);
  });
  return canvas;
}

// Resolves to how the samples of a model's sheet were drawn, each as {seed, label, conditions}; undefined if it does not say.
export const samplingOf = async name => (await sheetOf(name))?.samples;

// Resolves to the first pictures of a model's sheet, each as a canvas of the model's size; none if it is not of such pictures.
export async function cellsOf(name, most) {
  const sheet = (await sheetOf(name))?.bitmap;
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

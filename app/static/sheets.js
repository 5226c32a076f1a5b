// The sheets of the models: samples that show what each draws; and the first of them, which show it at a glance.

import { request } from "./api.js";
import { el } from "./dom.js";
import { models, sidesOf } from "./models.js";
import { t } from "./texts.js";

const GAP = 2; // pixels between the pictures of a sheet
const GLANCE = [4, 2]; // its columns and rows: app/glance.py
const found = new Map(); // a promise of each figure, by its path and the version of its model

const read = {
  glance: createImageBitmap,
  sheet: async blob => {
    const [bitmap, recipe] = await Promise.all([createImageBitmap(blob), readRecipe(blob)]);
    return { bitmap, samples: recipe?.samples };
  },
};

// Resolves to a model's `glance`, a bitmap, or its `sheet` as {bitmap, samples}, which say how they were drawn, if it does.
function figureOf(name, figure) {
  if (!models.get(name)?.documents?.includes("sheet")) return Promise.resolve();
  const path = `/models/${name}/figures/${figure}`;
  const key = path + models.get(name).version;
  if (!found.has(key)) {
    const asked = request(path).then(response => response.blob()).then(read[figure]);
    found.set(key, asked.catch(() => void found.delete(key)));
  }
  return found.get(key);
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

// Returns a canvas with the first pictures of a model's sheet, at most 4×2; of a model without one it stays blank.
export function samplesOf(name, columns, rows) {
  const [across, down] = sidesOf(name);
  const canvas = el("canvas", { className: "samples", role: "img", "aria-label": t("samples", name) });
  const sizeOf = (columns, rows) => [columns * (across + GAP) - GAP, rows * (down + GAP) - GAP];
  [canvas.width, canvas.height] = sizeOf(columns, rows);
  figureOf(name, "glance").then(bitmap => bitmap && canvas.getContext("2d").drawImage(bitmap, 0, 0, ...sizeOf(...GLANCE)));
  return canvas;
}

// Resolves to how the samples of a model's sheet were drawn, each as {seed, label, conditions}; undefined if it does not say.
export const samplingOf = async name => (await figureOf(name, "sheet"))?.samples;

// Resolves to the first pictures of a model's sheet, each as a canvas of the model's size; none if it is not of such pictures.
export async function cellsOf(name, most) {
  const sheet = (await figureOf(name, "sheet"))?.bitmap;
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

const CHUNK = "iTXtdifuso\0\0\0"; // its type, keyword, and that it is not compressed: PNG, section 11.3.3.4

// Resolves to the JSON in the iTXt chunk `difuso` of a PNG; undefined without one.
export async function readRecipe(file) {
  const buffer = await file.arrayBuffer();
  const at = new TextDecoder("latin1").decode(buffer).indexOf(CHUNK);
  if (at < 0) return undefined;
  const content = new Uint8Array(buffer, at + CHUNK.length, new DataView(buffer).getUint32(at - 4) + "iTXt".length - CHUNK.length);
  const from = content.indexOf(0, content.indexOf(0) + 1) + 1; // after the language and the translated keyword
  return JSON.parse(new TextDecoder().decode(content.subarray(from)));
}

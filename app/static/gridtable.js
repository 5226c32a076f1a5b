// The table of a grid: in each cell a picture with its share of the seconds that its job took; and the same as one PNG.

import { addressOf, countOf } from "./describe.js";
import { el, multiple, save } from "./dom.js";
import { valueWords } from "./gridaxis.js";
import { axisName } from "./gridcard.js";
import { fetchFile } from "./inputs.js";
import { drawnBy, sizeOf } from "./models.js";
import { enterPicture } from "./routes.js";
import { addBox } from "./selection.js";
import { duration, t } from "./texts.js";
import { holdable } from "./tile.js";

const TILE = 128; // pixels, about
const GAP = 12;
const LINE = 20;
const FONT = "14px system-ui, sans-serif";
export const keyOf = asked => asked.join("\n");
const secondsOf = (job, cells) => ([...cells.values()].every(each => each.job?.id === job.id) ? "" : duration(job.timings.denoise / countOf(job))); // all pictures of one job have the same

// Returns the table of these values of two axes; `cells` has a cell for each key, and `model` has the words.
export function tableOf({ rows, columns }, axes, cells, model) {
  const [down, across] = axes.map(axis => axisName(axis, model));
  const head = (value, axis, scope) => el("th", { scope, textContent: valueWords(value, axis, model) });
  const rowOf = row => el("tr", {}, head(row, axes[0], "row"), ...columns.map(column => cellOf(cells, [row, column], axes, model)));
  const names = el("tr", {}, el("td"), el("th", { scope: "colgroup", colSpan: columns.length, className: "hint", textContent: across }));
  const heads = el("tr", {}, el("th", { scope: "col", className: "hint", textContent: down }), ...columns.map(column => head(column, axes[1], "col")));
  return el("table", {}, el("thead", {}, names, heads), el("tbody", {}, ...rows.map(rowOf)));
}

function cellOf(cells, asked, axes, model) {
  const cell = cells.get(keyOf(asked));
  if (cell?.error) return el("td", { className: "hint", title: cell.error.message, textContent: t("notPossible") });
  const source = cell?.job && addressOf(cell.job, cell.index);
  if (!source) return el("td", {}, el("div", { className: "blank" }), el("small", { textContent: cell?.job ? t(cell.job.state) : "" }));
  const image = el("img", { src: source, alt: cell.asked.map((value, at) => valueWords(value, axes[at], model)).join(", ") });
  const link = el("a", { href: source, className: "picture", onclick: event => (event.preventDefault(), enterPicture(cell.job.id, cell.index)) }, image);
  const found = el("td", {}, link, el("small", { textContent: secondsOf(cell.job, cells) }));
  holdable(found);
  addBox(found, cell.job, cell.index, 0); // two cells can be compared
  return found;
}

// Saves a grid as one picture with its labels.
export async function saveGrid(job, axes, { rows, columns }, cells) {
  const size = multiple(sizeOf(drawnBy(job)), TILE);
  const [left, top] = [110, 3 * LINE + GAP];
  const width = left + columns.length * (size + GAP);
  const height = top + rows.length * (size + LINE + GAP);
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#1c1b22";
  context.font = `600 ${FONT}`;
  const titles = [axes.includes("model") ? "difuso" : job.model, ...(axes.includes("seed") ? [] : [`${t("seed")} ${[job.params.seed].flat()[0]}`]), axes.map(axis => axisName(axis, job.model)).join(" × ")];
  context.fillText(titles.join(" · "), GAP, LINE);
  context.font = FONT;
  columns.forEach((value, column) => context.fillText(valueWords(value, axes[1], job.model), left + column * (size + GAP), 3 * LINE));
  for (const [row, down] of rows.entries()) {
    const y = top + row * (size + LINE + GAP);
    context.fillText(valueWords(down, axes[0], job.model), GAP, y + size / 2, left - 2 * GAP);
    for (const [column, value] of columns.entries()) {
      const x = left + column * (size + GAP);
      const cell = cells.get(keyOf([down, value]));
      const source = cell?.job && addressOf(cell.job, cell.index);
      if (source) {
        context.drawImage(await createImageBitmap(await fetchFile(source)), x, y, size, size);
        context.fillText(secondsOf(cell.job, cells), x, y + size + LINE - 4);
      } else if (cell?.error || cell?.job) context.fillText(t(cell.error ? "notPossible" : cell.job.state), x, y + size / 2);
    }
  }
  save(await new Promise(resolve => canvas.toBlob(resolve, "image/png")), `difuso-grid-${job.model}-${axes.join("-").replaceAll(":", "-")}.png`);
}

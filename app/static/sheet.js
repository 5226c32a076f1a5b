// A grid as one PNG, with its labels.

import { axisName } from "./axes.js";
import { addressOf } from "./describe.js";
import { el, multiple, save } from "./dom.js";
import { fetchFile } from "./inputs.js";
import { drawnBy, sizeOf } from "./models.js";
import { duration, t } from "./texts.js";

const TILE = 128; // pixels, about
const GAP = 12;
const LINE = 20;
const FONT = "14px system-ui, sans-serif";

export async function saveGrid(job, axis, { rows, columns }, cells) {
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
  context.fillText(`${job.model} · ${t("seed")} ${[job.params.seed].flat()[0]}`, GAP, LINE);
  context.font = FONT;
  columns.forEach((value, column) => context.fillText(`${axisName(axis, job.model)} ${value}`, left + column * (size + GAP), 3 * LINE));
  for (const [row, sampler] of rows.entries()) {
    const y = top + row * (size + LINE + GAP);
    context.fillText(sampler, GAP, y + size / 2);
    for (const [column, value] of columns.entries()) {
      const x = left + column * (size + GAP);
      const cell = cells.get(`${sampler} ${value}`);
      const source = cell?.job && addressOf(cell.job, 0);
      if (source) {
        context.drawImage(await createImageBitmap(await fetchFile(source)), x, y, size, size);
        context.fillText(duration(cell.job.timings.denoise), x, y + size + LINE - 4);
      } else if (cell?.error || cell?.job) context.fillText(t(cell.error ? "notPossible" : cell.job.state), x, y + size / 2);
    }
  }
  save(await new Promise(resolve => canvas.toBlob(resolve, "image/png")), `difuso-grid-${job.model}-${axis}.png`);
}

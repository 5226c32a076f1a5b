// The table of a grid: a row for each sampler, and in each cell its picture with the seconds that it took.

import { axisName } from "./axes.js";
import { addressOf } from "./describe.js";
import { el } from "./dom.js";
import { holdable } from "./holding.js";
import { enterPicture } from "./routes.js";
import { addBox } from "./selection.js";
import { duration, t } from "./texts.js";

export const keyOf = (sampler, value) => `${sampler} ${value}`;

// Returns the table of these samplers and values of an axis; `cells` has a cell for each key.
export function tableOf(samplers, values, axis, cells) {
  const head = el("tr", {}, el("td"), ...values.map(value => el("th", { scope: "col", textContent: `${axisName(axis)} ${value}` })));
  const rowOf = sampler => [el("th", { scope: "row", textContent: sampler }), ...values.map(value => cellOf(cells.get(keyOf(sampler, value))))];
  const rows = samplers.map(sampler => el("tr", {}, ...rowOf(sampler)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

function cellOf(cell) {
  if (cell?.error) return el("td", { className: "hint", title: cell.error.message, textContent: t("notPossible") });
  const source = cell?.job && addressOf(cell.job, 0);
  if (!source) return el("td", {}, el("div", { className: "blank" }), el("small", { textContent: cell?.job ? t(cell.job.state) : "" }));
  const image = el("img", { src: source, alt: cell.asked.join(", ") });
  const link = el("a", { href: source, className: "picture" }, image);
  link.addEventListener("click", event => (event.preventDefault(), enterPicture(cell.job.id, 0)));
  const found = el("td", {}, link, el("small", { textContent: duration(cell.job.timings.denoise) }));
  holdable(found);
  addBox(found, cell.job, 0, 0); // two cells can be compared
  return found;
}

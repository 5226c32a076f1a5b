// A grid of anything by anything. Cells that differ by seed, class or conditions alone are images of one job. In each is a
// picture with its share of the seconds that its job took.

import { addressOf, countOf, seedOf } from "./describe.js";
import { $, brushOf, complain, el, here, multiple, save } from "./dom.js";
import { ended, watchTag } from "./follow.js";
import { chooseModel, form, readForm } from "./form.js";
import { filledIn, GridAxis, inOrder, isPerImage, MOST, requestOf, valueAt, valueWords } from "./gridaxis.js";
import { axesOf, axisName, newTag } from "./gridcard.js";
import { fetchFile } from "./inputs.js";
import { make } from "./making.js";
import { tellMissing } from "./missing.js";
import { drawnBy, fromPicture, models, sizeOf } from "./models.js";
import { enterPicture, routeOf } from "./routes.js";
import { addBox } from "./selection.js";
import { isGone, jobs } from "./store.js";
import { duration, t, translate } from "./texts.js";
import { holdable } from "./tile.js";

const TILE = 96; // CSS pixels, about
const [SAVED, GAP, LINE] = [128, 12, 20]; // pixels of a grid that is saved: its pictures, about, and its gaps and lines
const FONT = "14px system-ui, sans-serif";
const section = $("grid");
const cells = new Map(); // by the values of both axes: {asked, job, index}, or {asked, error} of its request
let tag; // of the grid that is shown
let parts;
let offered; // the model whose conditions are axes
let drawing; // the tag of the grid that this page is drawing
let reopened; // the tag of a grid that the form does not show yet

const keyOf = asked => asked.join("\n");

function build() {
  const [rows, columns] = ["gridRows", "gridColumns"].map((key, at) => new GridAxis(key, at));
  const seed = el("input", { inputMode: "numeric", pattern: "[0-9]+", value: "1", required: true });
  const draw = el("button", { type: "submit", className: "main" });
  const exported = el("button", { type: "button", disabled: true, dataset: { t: "gridExport" } });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const table = el("div", { className: "grid-table", tabIndex: 0, role: "region", dataset: { tLabel: "gridTitle" } });
  const seeds = el("label", { className: "grid-seed" }, el("span", { dataset: { t: "gridSeed" } }), seed);
  const controls = el("form", { className: "grid-form" }, el("h2", { dataset: { t: "gridTitle" } }), el("p", { className: "hint", dataset: { t: "gridLead" } }),
    rows.element, columns.element, seeds, alarm, el("div", { className: "row" }, draw, exported));
  section.append(controls, table);
  translate(section);
  parts = { rows, columns, seed, seeds, draw, exported, alarm, table };
  form.addEventListener("change", () => offer());
  for (const event of ["input", "change"]) controls.addEventListener(event, count);
  controls.addEventListener("submit", event => (event.preventDefault(), drawGrid()));
  exported.addEventListener("click", () => saveGrid(jobOfGrid(), axesOf(tag), layout()).catch(error => complain(alarm, error)));
  for (const event of ["job", "back"]) jobs.addEventListener(event, ({ detail }) => detail.tag && detail.tag === tag && tag !== reopened && (put(detail), show()));
  document.addEventListener("language", () => (offer(true), show()));
}

const model = () => form.elements.model.value;

// Offers the conditions of the chosen model as axes, too, with values of its own.
function offer(again = false) {
  if (offered === model() && !again) return;
  offered = model();
  for (const axis of [parts.rows, parts.columns]) axis.offer(offered, again);
  count();
}

function count() {
  const { rows, columns, draw, seeds } = parts;
  rows.without(columns.axis);
  columns.without(rows.axis);
  seeds.hidden = [rows.axis, columns.axis].includes("seed");
  draw.textContent = t("gridDraw", rows.values.length * columns.values.length);
}

// Makes the jobs one after another, so that their seconds are their own, and shows those that the server refuses as not possible.
async function drawGrid() {
  const { rows, columns, alarm, draw } = parts;
  const sizes = [rows, columns].map(({ values }) => values.length);
  const refusal = fromPicture(model()) ? t("gridFromPicture", model()) : Math.min(...sizes) < 1 ? t("gridNothing") : Math.max(...sizes) > MOST && t("gridTooLarge", MOST);
  complain(alarm, refusal && new Error(refusal));
  if (refusal) return;
  const request = readForm();
  const axes = [rows.axis, columns.axis];
  const drawn = (tag = drawing = newTag(axes));
  history.replaceState(null, "", `#grid=${tag}`);
  cells.clear();
  draw.disabled = true;
  const all = rows.values.flatMap(row => columns.values.map(column => [row, column]));
  for (const asked of all) cells.set(keyOf(asked), { asked });
  show();
  parts.table.scrollIntoView({ block: "nearest" }); // of a narrow window it lies below
  const groups = Map.groupBy(all, asked => keyOf(asked.filter((_, at) => !isPerImage(axes[at]))));
  for (const group of groups.values()) {
    try {
      const { id } = await make(await filledIn(requestOf(group, axes, request, { tag, seed: parts.seed.value })));
      await ended(id);
    } catch (error) {
      if (drawn !== tag) break;
      for (const asked of group) cells.set(keyOf(asked), { asked, error });
      show();
      complain(alarm, error); // of cells that are not possible, why the last one is not
      if (error.type !== "invalid-request") break;
    }
    if (drawn !== tag) break; // another grid was opened meanwhile
  }
  draw.disabled = false;
  drawing = undefined;
}

// A job of this grid: its cells follow from its own parameters. Once the job is gone they are empty.
function put(job) {
  const [down, across] = axesOf(job.tag);
  for (let index = 0; index < countOf(job); index++) {
    const asked = [valueAt(job, index, down, across), valueAt(job, index, across, down)];
    cells.set(keyOf(asked), isGone(job) ? { asked } : { asked, job, index });
  }
}

// Reads the jobs of the grid, whose changes come by events.
async function read() {
  const mine = tag;
  await watchTag(mine);
  if (mine !== tag) return; // the reader has gone on
  jobs.tagged(mine).forEach(put);
  if (mine === reopened) choose();
  if (!jobOfGrid() && mine !== drawing && routeOf(location.hash).value === mine) {
    tag = undefined;
    tellMissing();
  }
  show();
}

// Shows a grid that was drawn before; without a tag the one that is there.
export function openGrid(wanted) {
  if (!parts) build();
  offer();
  if (axesOf(wanted) && wanted !== tag) {
    tag = reopened = wanted;
    cells.clear();
  }
  if (tag) read().catch(error => ((reopened = undefined), complain(parts.alarm, error)));
  show();
}

// Shows in the form what the grid was drawn of, so that it can be drawn again with a change.
function choose() {
  const [shown, axes, job] = [layout(), axesOf(tag), jobOfGrid()];
  reopened = undefined;
  if (!job) return;
  if (!axes.includes("model") && job.model !== model() && models.get(job.model)?.defaults) chooseModel(job.model);
  if (!axes.every(axis => parts.rows.has(axis))) return;
  parts.rows.choose(axes[0], shown.rows);
  parts.columns.choose(axes[1], shown.columns);
  parts.seed.value = seedOf(job, 0);
  count();
}

const jobOfGrid = () => [...cells.values()].find(({ job }) => job)?.job;

function layout() {
  const values = at => [...cells.values()].map(cell => cell.asked[at]);
  const [rows, columns] = axesOf(tag).map((axis, at) => inOrder(values(at), axis, jobOfGrid()?.model ?? model()));
  return { rows, columns };
}

function show() {
  const job = jobOfGrid();
  parts.exported.disabled = !job || ![...cells.values()].some(cell => cell.job && addressOf(cell.job, cell.index));
  if (!tag || !cells.size) return parts.table.replaceChildren();
  const table = tableOf(layout(), axesOf(tag), job?.model ?? model());
  table.style.setProperty("--tile", `${multiple(sizeOf(job && drawnBy(job)), TILE)}px`);
  const held = [...parts.table.querySelectorAll("a, input")].indexOf(document.activeElement);
  parts.table.replaceChildren(table);
  table.querySelectorAll("a, input")[held]?.focus(); // cells are filled in their order
}

const secondsOf = job => ([...cells.values()].every(each => each.job?.id === job.id) ? "" : duration(job.timings.denoise / countOf(job))); // all pictures of one job have the same

// Returns the table of these values of two axes, in the words of a model.
function tableOf({ rows, columns }, axes, model) {
  const [down, across] = axes.map(axis => axisName(axis, model));
  const head = (value, axis, scope) => el("th", { scope, textContent: valueWords(value, axis, model) });
  const rowOf = row => el("tr", {}, head(row, axes[0], "row"), ...columns.map(column => cellOf([row, column], axes, model)));
  const names = el("tr", {}, el("td"), el("th", { scope: "colgroup", colSpan: columns.length, className: "hint", textContent: across }));
  const heads = el("tr", {}, el("th", { scope: "col", className: "hint", textContent: down }), ...columns.map(column => head(column, axes[1], "col")));
  return el("table", {}, el("thead", {}, names, heads), el("tbody", {}, ...rows.map(rowOf)));
}

function cellOf(asked, axes, model) {
  const cell = cells.get(keyOf(asked));
  if (cell?.error) return el("td", { className: "hint", title: cell.error.message, textContent: t("notPossible") });
  const source = cell?.job && addressOf(cell.job, cell.index);
  if (!source) return el("td", {}, el("div", { className: "blank" }), el("small", { textContent: cell?.job ? t(cell.job.state) : "" }));
  const image = el("img", { src: source, alt: cell.asked.map((value, at) => valueWords(value, axes[at], model)).join(", ") });
  const link = el("a", { href: source, className: "picture", onclick: here(() => enterPicture(cell.job.id, cell.index)) }, image);
  const found = el("td", {}, link, el("small", { textContent: secondsOf(cell.job) }));
  holdable(found);
  addBox(found, cell.job, cell.index, 0); // two cells can be compared
  return found;
}

// Saves a grid as one picture with its labels.
async function saveGrid(job, axes, { rows, columns }) {
  const size = multiple(sizeOf(drawnBy(job)), SAVED);
  const [left, top] = [110, 3 * LINE + GAP];
  const width = left + columns.length * (size + GAP);
  const height = top + rows.length * (size + LINE + GAP);
  const context = brushOf(width, height);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
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
        context.fillText(secondsOf(cell.job), x, y + size + LINE - 4);
      } else if (cell?.error || cell?.job) context.fillText(t(cell.error ? "notPossible" : cell.job.state), x, y + size / 2);
    }
  }
  save(await new Promise(resolve => context.canvas.toBlob(resolve, "image/png")), `difuso-grid-${job.model}-${axes.join("-").replaceAll(":", "-")}.png`);
}

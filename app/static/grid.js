// A grid of samplers by the values of one parameter, all from one seed, with the seconds that each picture took.

import { ask } from "./api.js";
import { askAt, AXES, isChoice, offerAxes, sweptBy, usualValues, valueAt, valuesIn } from "./axes.js";
import { addressOf } from "./describe.js";
import { $, complain, el, multiple } from "./dom.js";
import { form, readForm } from "./form.js";
import { axisOf } from "./gridcard.js";
import { keyOf, tableOf } from "./gridtable.js";
import { settings } from "./kinds.js";
import { make } from "./making.js";
import { tellMissing } from "./missing.js";
import { drawnBy, fromPicture, sizeOf } from "./models.js";
import { routeOf } from "./routes.js";
import { saveGrid } from "./sheet.js";
import { isEnded, isGone, jobs } from "./store.js";
import { t, translate } from "./texts.js";
import { conditionsOf } from "./values.js";

const OF_SAMPLER = ["sampler", "spacing", "eta", "variance"]; // settings that suit one sampler
const MOST = 64; // pictures
const NUMBERS = "[\\-0-9., ]+";
const TILE = 96; // CSS pixels, about
const LOOK = 1100; // milliseconds
const section = $("grid");
const cells = new Map(); // by sampler and value: a job, or the error of its request
let tag; // of the grid that is shown
let parts;
let offered; // the model whose conditions are columns
let turn = 0;

function build() {
  const samplers = [...form.elements.sampler.options].filter(option => option.value).map(({ value }) => {
    const box = el("input", { type: "checkbox", value, checked: ["ddpm", "ddim", "dpmpp", "unipc"].includes(value) });
    return el("label", { className: "check" }, box, el("span", { textContent: value }));
  });
  const axis = el("select", {}, ...Object.keys(AXES).map(value => el("option", { value, dataset: { t: `gridOf_${value}` } })));
  const values = el("input", { value: AXES.steps, pattern: NUMBERS, required: true });
  const seed = el("input", { inputMode: "numeric", pattern: "[0-9]+", value: "1", required: true });
  const draw = el("button", { type: "submit", className: "main" });
  const exported = el("button", { type: "button", disabled: true, dataset: { t: "gridExport" } });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const table = el("div", { className: "grid-table", tabIndex: 0, role: "region", dataset: { tLabel: "gridTitle" } });
  const labelled = (key, control) => el("label", {}, el("span", { dataset: { t: key } }), control);
  const choice = el("fieldset", { className: "samplers" }, el("legend", { dataset: { t: "gridRows" } }), ...samplers);
  const controls = el("form", { className: "grid-form" }, el("h2", { dataset: { t: "gridTitle" } }),
    el("p", { className: "hint", dataset: { t: "gridLead" } }), choice,
    el("div", { className: "triple" }, labelled("gridColumns", axis), labelled("gridValues", values), labelled("gridSeed", seed)),
    alarm, el("div", { className: "row" }, draw, exported));
  section.append(controls, table);
  translate(section);
  parts = { samplers, axis, values, seed, draw, exported, alarm, table };
  axis.addEventListener("change", () => (offerValues(), count()));
  form.addEventListener("change", offer);
  controls.addEventListener("input", count);
  controls.addEventListener("submit", event => (event.preventDefault(), drawGrid()));
  exported.addEventListener("click", () => saveGrid(modelOfGrid(), parts.table.dataset.axis, layout(), cells).catch(error => complain(alarm, error)));
  for (const event of ["job", "back"]) jobs.addEventListener(event, ({ detail }) => detail.tag && detail.tag === tag && (put(detail), show()));
  document.addEventListener("language", () => (count(), show()));
}

const model = () => form.elements.model.value;
// Offers the conditions of the chosen model as columns, too, with values of its own.
function offer() {
  if (offered === model()) return;
  offered = model();
  if (!offerAxes(parts.axis, offered) || sweptBy(parts.axis.value)) offerValues();
  count();
}

function offerValues() {
  const { axis, values } = parts;
  values.value = usualValues(axis.value, model());
  values.pattern = isChoice(axis.value, model()) ? ".*" : NUMBERS;
}

const count = () => (parts.draw.textContent = t("gridDraw", chosen().length * listed().length));
const chosen = () => parts.samplers.map(label => label.firstChild).filter(box => box.checked).map(box => box.value);
const listed = () => valuesIn(parts.values.value, parts.axis.value, model());

// Makes a job for each cell, and shows those that the server refuses as not possible.
async function drawGrid() {
  const [rows, columns, axis] = [chosen(), listed(), parts.axis.value];
  complain(parts.alarm, null);
  if (fromPicture(model())) return complain(parts.alarm, new Error(t("gridFromPicture", model())));
  if (!rows.length || !columns.length) return complain(parts.alarm, new Error(t("gridNothing")));
  if (rows.length * columns.length > MOST) return complain(parts.alarm, new Error(t("gridTooLarge", MOST)));
  let request;
  try {
    request = readForm();
  } catch (error) {
    return complain(parts.alarm, error);
  }
  tag = `grid:${axis}:${Math.floor(Math.random() * 2 ** 32).toString(16)}`;
  history.replaceState(null, "", `#grid=${tag}`);
  cells.clear();
  parts.draw.disabled = true;
  const { query: base, urgency } = request;
  const files = request.files.filter(([name]) => conditionsOf(base.get("model")).some(([each]) => each === name)); // pictures of its conditions
  const kept = ["model", "label", ...settings.keys()].filter(name => !OF_SAMPLER.includes(name) && base.getAll(name).length === 1);
  const drawn = tag;
  for (const sampler of rows) for (const value of columns) cells.set(keyOf(sampler, value), { asked: [sampler, value] });
  drawing: for (const sampler of rows) {
    for (const value of columns) {
      const query = new URLSearchParams(kept.map(name => [name, base.get(name)]));
      for (const [name, wanted] of Object.entries({ sampler, seed: parts.seed.value, n: 1, tag })) query.set(name, wanted);
      askAt(query, axis, value, base);
      try {
        const job = await make({ kind: "generate", query, files, urgency });
        if (drawn !== tag) break drawing; // another grid was opened meanwhile
        put(job);
        show();
        await look(drawn); // one after another, so that the seconds are each picture's own
      } catch (error) {
        if (drawn !== tag) break drawing;
        cells.set(keyOf(sampler, value), { asked: [sampler, value], error });
        complain(parts.alarm, error); // of cells that are not possible, why the last one is not
        if (error.type !== "invalid-request") break drawing;
      }
      if (drawn !== tag) break drawing;
      show();
    }
  }
  parts.draw.disabled = false;
  if (drawn !== tag) look(tag);
}

// A job of this grid: its cell follows from its own parameters. Once the job is gone the cell is empty.
function put(job) {
  const asked = [job.params.sampler, valueAt(job, axisOf(job.tag))];
  cells.set(keyOf(...asked), isGone(job) ? { asked } : { asked, job });
}

// Reads the jobs of the grid again and again, until all that were made have ended: one request for all.
async function look(looked) {
  const mine = ++turn; // a later look ends an earlier one
  while (looked === tag && mine === turn) {
    try {
      for (let cursor = ""; cursor !== undefined; ) {
        const page = await ask("GET", `/jobs?limit=100&tag=${encodeURIComponent(looked)}${cursor && `&cursor=${cursor}`}`);
        if (looked !== tag || mine !== turn) return;
        for (const job of page.jobs) (jobs.put(job), put(job));
        cursor = page.next;
      }
      if (!modelOfGrid() && routeOf(location.hash).value === looked) {
        tag = undefined;
        return tellMissing();
      }
    } catch (error) {
      complain(parts.alarm, error);
    }
    show();
    if ([...cells.values()].every(({ job }) => !job || isEnded(job))) return;
    await new Promise(resolve => setTimeout(resolve, LOOK));
  }
}

// Shows a grid that was drawn before; without a tag the one that is there.
export function openGrid(wanted) {
  if (!parts) build();
  offer();
  if (wanted && axisOf(wanted) && wanted !== tag) {
    tag = wanted;
    cells.clear();
  }
  if (tag && !parts.draw.disabled) look(tag);
  show();
}

const modelOfGrid = () => [...cells.values()].find(({ job }) => job)?.job;

function layout() {
  const asked = [...cells.values()].map(cell => cell.asked);
  const order = [...form.elements.sampler.options].map(option => option.value);
  const rows = [...new Set(asked.map(([sampler]) => sampler))].sort((a, b) => order.indexOf(a) - order.indexOf(b));
  return { rows, columns: [...new Set(asked.map(([, value]) => value))].sort((a, b) => (typeof a === "number" ? a - b : 0)) };
}

function show() {
  const { rows, columns } = layout();
  const job = modelOfGrid();
  parts.exported.disabled = !job || ![...cells.values()].some(cell => cell.job && addressOf(cell.job, 0));
  if (!tag || !rows.length) return parts.table.replaceChildren();
  const axis = (parts.table.dataset.axis = axisOf(tag));
  const table = tableOf(rows, columns, axis, cells);
  table.style.setProperty("--tile", `${multiple(sizeOf(job && drawnBy(job)), TILE)}px`);
  const held = [...parts.table.querySelectorAll("a, input")].indexOf(document.activeElement);
  parts.table.replaceChildren(table);
  table.querySelectorAll("a, input")[held]?.focus(); // cells are filled in their order
}

// Pictures become a model: they are dropped or were sent before, it gets a name, and one of three cards says how long it learns.

import { ask, events, hasKey, keyHeader, request } from "../api.js";
import { complain, el, refill } from "../dom.js";
import { models } from "../models.js";
import { notify } from "../notice.js";
import { Problem, problemOf, translated } from "../problems.js";
import { go } from "../routes.js";
import { duration, number, t } from "../texts.js";
import { zipOf } from "../zip.js";
import { preview, read } from "./reading.js";
import { heldBy, LEAST, OVER, placeOf, sheetOf, wordsOf } from "./rows.js";

const PRESETS = { taste: [32, 600], good: [64, 3600], best: [64, 28_800] }; // side and seconds: training/own_pictures.py
const SIDES = ["", 16, 32, 48, 64, 96, 128];
const STEP = /^step +([\d.e-]+) s/m; // training/run/dry_run.py
const STEPS = /([\d,]+) steps would take/;
const draft = { preset: "taste", name: "", licence: "", minutes: "", image_size: "", agreed: false };
const measured = new Map(); // words by preset
let source; // the pictures, as `read` has them, with `thumbnails`; and with the name of their `dataset` once they are sent
let work; // {words, share, controller} of what is on its way, which outlasts a look at other views
let parts;
let names = []; // of the trainings and the datasets

addEventListener("beforeunload", event => work && event.preventDefault());

export function makerOf() {
  const file = el("input", { type: "file", accept: ".zip,image/*", multiple: true, "aria-label": t("trainDrop"), onchange: () => (take([...file.files].map(each => ({ name: each.name, file: each }))), (file.value = "")) }); // the same file can be chosen again
  const drop = el("div", { className: "drop" }, el("span", { className: "drop-words" }, el("strong", { textContent: t("trainDrop") }), el("br"), t("trainDropHint")), file);
  const labelled = (key, input) => el("label", {}, t(key), input);
  const field = (name, properties) => el("input", { name, value: draft[name], autocomplete: "off", ...properties });
  const button = (key, className, onclick) => el("button", { type: "button", className, textContent: t(key), onclick });
  const card = preset => el("label", { className: "preset" }, el("input", { type: "radio", name: "preset", value: preset }), el("strong", { textContent: t(`train_${preset}`) }),
    el("span", { className: "plan", dataset: { preset } }), el("span", { className: "hint", textContent: t(`train_${preset}_hint`) }), el("output", { dataset: { preset } }));
  const sides = el("select", { name: "image_size" }, ...SIDES.map(side => new Option(side || t("asModel"), side, false, draft.image_size === String(side))));
  parts = { found: el("div", { className: "found" }), alarm: el("p", { className: "error", role: "alert", hidden: true }), bar: el("progress"), words: el("p", { className: "hint", role: "status" }),
    start: el("button", { className: "main", textContent: t("trainStart") }), measure: button("trainMeasure", "", () => begin(true)), cancel: button("cancel", "", () => work.controller.abort()) };
  parts.form = el("form", { onsubmit: event => (event.preventDefault(), begin(false)) },
    el("div", { className: "pair" }, labelled("trainName", field("name", { required: true, pattern: "[a-z0-9][a-z0-9._\\-]{0,63}", title: t("trainNameHint") })), labelled("trainLicence", field("licence", { placeholder: "CC0-1.0", maxLength: 200 }))),
    el("fieldset", { className: "presets" }, el("legend", { textContent: t("trainHow") }), ...Object.keys(PRESETS).map(card)),
    el("details", { open: Boolean(draft.minutes || draft.image_size) }, el("summary", { textContent: t("more") }), el("div", { className: "pair" },
      labelled("trainMinutes", field("minutes", { type: "number", min: 0.1, max: 10_000, step: "any", placeholder: t("asModel") })), labelled("trainSide", sides))),
    el("label", { className: "check" }, el("input", { type: "checkbox", name: "agreed", required: true, checked: draft.agreed }), t("trainAgreed")),
    el("p", { className: "hint", textContent: t(hasKey() ? "trainPrivate" : "trainOpen") }), parts.alarm, el("div", { className: "row start" }, parts.start, parts.measure, parts.cancel), parts.bar, parts.words);
  const note = ({ type, target: { name, type: kind, checked, value } }) => {
    draft[name] = kind === "checkbox" ? checked : value;
    if (["minutes", "image_size"].includes(name)) measured.clear();
    type === "change" && name === "name" ? rename(value) : show();
  };
  for (const type of ["input", "change"]) parts.form.addEventListener(type, note);
  showFound();
  return [drop, parts.found, parts.form];
}

function show() {
  if (!parts) return; // nobody has looked yet
  parts.form.hidden = !(source?.count >= LEAST);
  parts.start.disabled = parts.measure.disabled = Boolean(work);
  parts.bar.hidden = parts.cancel.hidden = !work;
  Object.assign(parts.bar, { value: work?.share ?? 0, ariaLabel: work?.words });
  if (work?.share === undefined) parts.bar.removeAttribute("value");
  parts.words.textContent = work?.words ?? "";
  for (const each of parts.form.querySelectorAll("output")) each.textContent = measured.get(each.dataset.preset) ?? "";
  parts.form.elements.preset.value = draft.preset;
  for (const each of parts.form.querySelectorAll(".plan")) {
    const [side, seconds] = PRESETS[each.dataset.preset];
    each.textContent = `${draft.image_size || side}×${draft.image_size || side} · ${duration(60 * draft.minutes || seconds)}`;
  }
  if (parts.form.elements.name.value !== draft.name) parts.form.elements.name.value = draft.name;
  parts.form.elements.name.setCustomValidity(isTaken(draft.name) ? t("trainTaken") : "");
}

const showFound = () => parts && (refill(parts.found, ...(source ? [...wordsOf(source), source.thumbnails] : [])), show());
const isTaken = name => models.has(name) || names.some(([each, isDataset]) => each === name && !(isDataset && source?.dataset)); // which is not sent again

// Resolves to the trainings and the datasets of the caller, whose names are taken.
export async function askOurs() {
  const [{ trainings }, { datasets }] = await Promise.all([ask("GET", "/trainings"), ask("GET", "/datasets")]);
  names = [...trainings.filter(each => !each.dry_run).map(({ name }) => [name, false]), ...datasets.map(({ name }) => [name, true])];
  return [trainings, datasets];
}

function say(words, share) {
  Object.assign(work, { words, share });
  show();
}

// Takes what was dropped or chosen, and shows it before anything is sent.
export async function take(files) {
  if (work || !files.length) return;
  complain(parts.alarm, null);
  source = undefined;
  try {
    const found = (source = await read(files));
    found.thumbnails = el("div", { className: "thumbnails", role: "img", "aria-label": t("trainSome", found.name) });
    suggest(found.name);
    await preview(found, found.thumbnails);
    if (source !== found) return;
  } catch (error) {
    notify(error.message, { error: true });
  }
  showFound();
}

// Takes pictures that were sent before, and chooses a preset for them.
export async function takeDataset(dataset, preset = draft.preset) {
  if (work) return;
  const [thumbnails] = await Promise.all([sheetOf(dataset), askOurs()]);
  source = { ...heldBy(dataset), thumbnails };
  draft.preset = preset;
  suggest(dataset.name);
  parts?.found.scrollIntoView({ block: "nearest" });
}

// Gives the model of new pictures a name that is not taken.
function suggest(name) {
  measured.clear();
  rename(name);
  for (let count = 2, first = draft.name; isTaken(draft.name); count++) rename(`${first.slice(0, 60)}-${count}`);
  showFound();
}

function rename(name) {
  draft.name = name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+|-+$/g, "").slice(0, 64);
  show();
}

// Sends the pictures, unless the server has them, and begins with the training; or only measures some of its steps.
async function begin(isDry) {
  if (work || !parts.form.reportValidity()) return;
  const controller = new AbortController();
  const { name, licence, preset, minutes, image_size: side } = draft;
  work = { controller };
  complain(parts.alarm, null);
  try {
    if (!source.dataset) source = { ...source, ...heldBy(await send(source, { name, licence }, share => say(t(share < 1 ? "trainSending" : "trainChecking"), share < 1 ? share : undefined), controller.signal)) };
    showFound();
    say(t("trainOrdering"));
    const order = { dataset: source.dataset, name, preset: side ? { preset, image_size: Number(side) } : preset, dry_run: isDry, ...(minutes && { minutes: Number(minutes) }) };
    const { id } = await ask("POST", "/trainings", { headers: { "Content-Type": "application/json" }, body: JSON.stringify(order) });
    if (isDry) measured.set(preset, await priceOf(id, controller.signal));
    else if (parts.form.checkVisibility()) go(`#train=${id}`);
    else notify(t("trainBegun", name), { button: t("show"), press: () => go(`#train=${id}`) });
  } catch (error) {
    if (error.name !== "AbortError") complain(parts.alarm, error);
  }
  work = undefined;
  show();
}

// Resolves to what a dry run has measured, which is deleted then.
async function priceOf(id, signal) {
  try {
    const [trainings] = await askOurs();
    for (;;) {
      for await (const { data } of events(`/trainings/${id}/events`, signal)) {
        say(`${t("trainMeasure")}: ${placeOf(data, trainings)}`);
        if (!OVER.includes(data.state)) continue;
        const [seconds, steps] = [STEP, STEPS].map(pattern => Number(pattern.exec(data.log)?.[1].replaceAll(",", "")));
        if (!steps) throw new Error(translated(data.reason ?? ""));
        return t("trainMeasured", duration(seconds), number(steps), duration(seconds * steps));
      }
      signal.throwIfAborted();
    }
  } finally {
    await request(`/trainings/${id}`, { method: "DELETE" }).catch(() => {}); // it is in the list of trainings otherwise
  }
}

// Resolves to the dataset. `show` gets the share that is sent; an abort of the signal ends it. `fetch` would tell no share.
async function send({ file, pictures }, { name, licence }, show, signal) {
  const body = new FormData();
  const named = pictures.map(({ name, same }, index) => ({ name: name.replace(/[^/]*$/, `${index}-$&`), arrayBuffer: () => same.arrayBuffer() })); // two may have the same name
  body.append("images", file || (await zipOf(named)), `${name}.zip`);
  body.append("name", name);
  body.append("licence", licence);
  const sent = new XMLHttpRequest();
  sent.open("POST", "/datasets");
  for (const [header, value] of Object.entries(keyHeader())) sent.setRequestHeader(header, value);
  await new Promise((resolve, reject) => {
    sent.upload.onprogress = ({ loaded, total }) => show(loaded / total);
    sent.upload.onload = () => show(1);
    sent.onload = resolve;
    sent.onerror = () => reject(new Problem(t("noAnswer"), "unreachable"));
    sent.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => sent.abort());
    sent.send(body);
  });
  if (sent.status === 201) return JSON.parse(sent.response);
  const headers = { "Retry-After": sent.getResponseHeader("Retry-After") ?? "" };
  throw await problemOf(new Response(sent.response, { status: sent.status, headers }));
}

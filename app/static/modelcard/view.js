// What is known of a model: its samples, how good it is and how long that takes, how it was trained, and its description.

import { answered, request } from "../api.js";
import { termsOf } from "../describe.js";
import { el, openDialog } from "../dom.js";
import { chooseModel } from "../form.js";
import { reveal } from "../gallery.js";
import { make } from "../making.js";
import { askConditions, fromPicture, labelFor, models, sidesOf, textOf } from "../models.js";
import { notify } from "../notice.js";
import { cellsOf, samplingOf } from "../sheets.js";
import { addPart, breakable, number, t, word } from "../texts.js";
import { curvesOf, qualityOf } from "./plots.js";

const USUAL = "http://127.0.0.1:8000"; // where examples of cards expect the server

export async function openModelCard(name) {
  await answered(addPart("modelcard"));
  const model = models.get(name);
  const facts = {
    size: [...sidesOf(name), model.channels].join("×"),
    parameters: number(model.parameters),
    predicts: model.prediction,
    class: model.classes?.join(", "),
    sampler: `${model.defaults.sampler}, ${model.defaults.steps}`,
    cardInsteadOf: model.instead_of,
    numberFormat: model.precision,
    version: model.version.slice(0, 12),
  };
  const shown = Object.entries(facts).filter(([, value]) => value);
  const list = el("dl", {}, ...termsOf(shown.map(([key, value]) => [t(key), value])));
  const text = el("div", { className: "description" });
  const parts = Object.fromEntries(["cardSamples", "cardQuality", "cardTraining"].map(key => [key, chapter(key)]));
  const dialog = openDialog("model-card", name, t("close"), el("h2", { textContent: name }), parts.cardSamples, list, parts.cardQuality,
    parts.cardTraining, text);
  const has = document => model.documents?.includes(document);
  const close = () => dialog.close();
  await Promise.all([
    describe(name, text, has("card")).then(() => fill(parts.cardQuality, qualityOf(model, [...text.querySelectorAll("table")], close))),
    has("sheet") && fill(parts.cardSamples, samplesOf(model, close)),
    has("metrics") && fill(parts.cardTraining, curvesOf(name)),
  ]);
}

const chapter = key => el("section", { className: key, hidden: true }, el("h3", { textContent: t(key) }));

async function fill(part, content) {
  const found = (await content) ?? [];
  part.append(...found);
  part.hidden = !found.length;
}

async function describe(name, element, isThere) {
  const text = isThere ? await (await request(`/models/${name}/card`, { headers: { Accept: "text/html" } })).text() : "";
  const { content } = el("template", { innerHTML: text.replaceAll(USUAL, location.origin) });
  if (content.firstElementChild?.textContent === name) content.firstElementChild.remove();
  for (const each of content.querySelectorAll("p, thead")) if (!each.textContent.trim()) each.remove(); // where a picture was, or a table has no titles
  for (const code of content.querySelectorAll("pre")) code.tabIndex = 0; // to be scrolled by keys
  if (!content.firstElementChild) content.append(el("p", { className: "hint", textContent: t("cardMissing") }));
  element.append(content);
}

const COUNT = 64;

// Resolves to the elements; a sheet of another kind is shown as it is.
async function samplesOf({ name, classes, conditions }, close) {
  const cells = fromPicture(name) ? [] : await cellsOf(name, COUNT);
  if (cells.length < COUNT) return wholeSheet(name);
  const samples = (await samplingOf(name)) ?? cells.map((_, seed) => ({ seed, label: classes && seed % classes.length }));
  const buttons = samples.map((sample, index) => {
    const conditions = Object.entries(sample.conditions ?? {}).map(([key, value]) => `${word(name, key)} ${textOf(value, name, key)}`);
    const words = [`${t("seed")} ${sample.seed}`, classes && word(name, "label", classes[sample.label] ?? ""), ...conditions].filter(Boolean).join(", ");
    return el("button", { type: "button", className: "sample", title: words, "aria-label": words, onclick: () => (close(), draw(name, sample)) }, cells[index]);
  });
  const rowsOf = (key, values, valueOf) =>
    values.flatMap(value => {
      const found = buttons.filter((_, index) => valueOf(samples[index]) === value);
      return found.length ? [el("h4", { textContent: value ? breakable(word(name, key, value)) : t("anyClass") }), row(found)] : [];
    });
  const choices = Object.entries(conditions ?? {}).filter(([key, { type }]) => type === "choice" && samples.some(each => each.conditions?.[key]));
  const ways = new Map([
    classes ? [t("class"), () => rowsOf("label", classes, ({ label }) => classes[label])] : [t("cardInTurn"), () => [row(buttons)]],
    ...choices.map(([key, { values }]) => [key, () => rowsOf(key, [...values, undefined], each => each.conditions?.[key])]),
  ]);
  const place = el("div");
  const show = way => {
    place.className = way === t("cardInTurn") ? "" : "by-class";
    place.replaceChildren(...ways.get(way)());
  };
  const [first] = ways.keys();
  show(first);
  const menu = el("select", {}, ...[...ways.keys()].map(way => el("option", { value: way, textContent: word(name, way) })));
  menu.addEventListener("change", () => show(menu.value));
  const label = el("label", { hidden: ways.size === 1 }, t("cardBy"), " ", menu);
  return [el("p", { className: "hint", textContent: t("cardSamplesHint") }), label, place];
}

async function wholeSheet(name) {
  const blob = await (await request(`/models/${name}/figures/sheet`)).blob();
  const image = el("img", { src: URL.createObjectURL(blob), alt: t("samples", name) });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return [el("figure", {}, image)];
}

const row = buttons => el("div", { className: "sample-row" }, ...buttons);

async function draw(name, { seed, label, conditions = {} }) {
  const query = new URLSearchParams({ model: name, seed, ...(label !== undefined && { label: labelFor(name, label) }) });
  askConditions(query, { model: name, conditions: Object.fromEntries(Object.entries(conditions).map(([key, value]) => [key, [value]])) });
  try {
    const job = await make({ kind: "generate", query });
    chooseModel(name);
    await reveal(job);
  } catch (error) {
    notify(error.message, { error: true });
  }
}

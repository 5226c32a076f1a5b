// The samples of a model: the pictures of its sheet, by class or by the value of a condition. Each can be drawn again: a sheet
// says how its samples were drawn, and older sheets are from the seeds 0 … 63 with the classes in turn.

import { request } from "../api.js";
import { el } from "../dom.js";
import { chooseModel } from "../form.js";
import { reveal } from "../gallery.js";
import { make } from "../making.js";
import { fromPicture, labelFor } from "../models.js";
import { notify } from "../notice.js";
import { cellsOf, samplingOf } from "../sheets.js";
import { breakable, t, word } from "../texts.js";
import { askConditions, textOf } from "../values.js";

const COUNT = 64;

// Resolves to the elements; a sheet of another kind is shown as it is.
export async function samplesOf({ name, classes, conditions }, close) {
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

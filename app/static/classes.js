// The classes of a model in the form, and several in one request: all in turn, or a row of the same seeds for each.

import { $, el, option } from "./dom.js";
import { classesOf, models } from "./models.js";
import { t } from "./texts.js";

export const ROWS = "\nrows"; // a label that only the form knows; no class has a line break in its name
const MOST = 64;

export const randomSeed = () => Math.floor(Math.random() * 2 ** 32);

export function showClasses(form, model) {
  const names = classesOf(model);
  const some = model.label_required ? [] : [option("anyClass", "")];
  const all = names.length > 1 ? [option("inRows", ROWS), ...(names.includes("all") ? [] : [option("inTurn", "all")])] : [];
  $("class").hidden = !names.length;
  form.elements.label.replaceChildren(...some, ...names.map(name => el("option", { value: name, dataset: { word: "label", value: name, model: model.name } })), ...all);
}

// Offers a row of each class, or takes it away where a request has classes of its own.
export function allowRows(form, allowed) {
  const rows = [...form.elements.label.options].find(({ value }) => value === ROWS);
  if (!rows) return;
  rows.hidden = rows.disabled = !allowed;
  if (rows.selected && !allowed) form.elements.label.selectedIndex = 0;
}

// Makes a query ask for the same seeds of every class.
export function askRows(query) {
  const names = classesOf(models.get(query.get("model")));
  const given = query.getAll("seed").map(Number);
  const first = given[0] ?? randomSeed();
  const seeds = given.length > 1 ? given : Array.from({ length: Number(query.get("n") ?? 1) }, (_, index) => first + index);
  if (names.length * seeds.length > MOST) throw new Error(t("tooManyRows", Math.floor(MOST / names.length), names.length));
  for (const name of ["label", "seed", "n"]) query.delete(name);
  for (const name of names) {
    for (const seed of seeds) {
      query.append("label", name);
      query.append("seed", seed);
    }
  }
}

// Returns what the form's menu says for classes, which come by index. Several are all of them in turn, or a row of each; of
// any others the form can say the first only.
export function choiceOf(values, names) {
  const each = values.length / names.length;
  const inTurn = values.every((value, index) => value === index % names.length);
  const inRows = Number.isInteger(each) && values.every((value, index) => value === Math.floor(index / each));
  return values.length === 1 ? names[values[0]] : inTurn ? "all" : inRows ? ROWS : names[values[0]];
}

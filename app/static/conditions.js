// Fields for the conditions of the chosen model: a menu, a slider, a line of numbers or a file each.

import { $, el, takeAny } from "./dom.js";
import { ARRAY, dressInputs } from "./inputs.js";
import { priceOf } from "./making.js";
import { randomSeed } from "./modelfields.js";
import { askConditions, classesOf, conditionsIn, conditionsOf, fromPicture, isFile, leastOf, models, neverWith } from "./models.js";
import { number, t, translate, word } from "./texts.js";

const PREFIX = "condition:"; // of the names of fields, which no parameter has
const STEPS = 100; // of a slider
const place = $("conditions");
let shown; // the model whose conditions are there
const boxOf = field => field.closest(".optional")?.querySelector("[type=checkbox]"); // that says whether a number is sent, if it may be left out
export const conditionField = name => place.querySelector(`[name="${PREFIX}${CSS.escape(name)}"]`);
const wordsOf = name => el("span", { dataset: { word: name, model: shown } });

// Shows the conditions of a model; their values stay while the model does.
export function showConditions(model) {
  if (shown === model) return;
  shown = model;
  const conditions = conditionsOf(model);
  place.replaceChildren(...conditions.map(([name, condition]) => (MAKERS[condition.type] ?? lineOf)(name, condition)));
  dressInputs(place);
  place.hidden = !conditions.length;
  $("surprise").hidden = !conditions.some(([, each]) => !isFile(each)) && !classesOf(models.get(model)).length;
  translate(place);
  greyOut();
}

// Greys out what the model has never seen with what the other menus say, and says with what. What is chosen stays.
function greyOut() {
  const menus = [...place.querySelectorAll("select")];
  const chosen = Object.fromEntries(menus.map(({ name, value }) => [conditionOf(name), value]));
  for (const menu of menus) {
    for (const option of [...menu.options].filter(({ value }) => value)) {
      const others = neverWith(shown, conditionOf(menu.name), option.value, chosen);
      option.disabled = Boolean(others) && !option.selected;
      option.title = others ? t("neverWith", word(shown, conditionOf(menu.name), option.value), others.map(other => word(shown, ...other)).join(", ")) : "";
      option.textContent = option.title || word(shown, conditionOf(menu.name), option.value);
    }
    menu.title = menu.selectedOptions[0]?.title ?? ""; // a closed menu may be too narrow for it
  }
}

place.addEventListener("change", greyOut);

const MAKERS = { choice: menuOf, number: sliderOf, vector: lineOf, map: fileOf, image: fileOf, sequence: fileOf };

function menuOf(name, { values, null: free }) {
  const select = el("select", { name: PREFIX + name, required: !free });
  if (free) select.append(el("option", { value: "", dataset: { t: "anyClass" } }));
  select.append(...values.map(value => new Option(value, value)));
  return el("label", {}, wordsOf(name), select);
}

function sliderOf(name, { low, high, unit, null: free }) {
  const step = Number.isInteger(low) && Number.isInteger(high) && high - low >= 10 ? 1 : (high - low) / STEPS;
  const slider = el("input", { name: PREFIX + name, type: "range", min: low, max: high, step, value: (low + high) / 2 });
  const output = el("output");
  const box = el("input", { type: "checkbox" });
  const show = () => {
    box.ariaLabel = `${word(shown, name)}: ${t("send")}`;
    output.textContent = free && !box.checked ? t("anyClass") : `${number(slider.valueAsNumber, step % 1 || slider.valueAsNumber % 1 ? 2 : 0)} ${unit}`.trim();
  };
  slider.addEventListener("input", () => ((box.checked = true), show())); // whoever moves it means it
  slider.addEventListener("filled", show);
  box.addEventListener("change", show);
  show();
  const label = el("label", {}, el("span", { className: "row" }, wordsOf(name), output), slider);
  return free ? el("div", { className: "optional" }, label, box) : label;
}

function lineOf(name, { size, null: free }) {
  const input = el("input", { name: PREFIX + name, required: !free, placeholder: t("numbers", size ?? 1), pattern: "[\\-0-9.,eE+ ]+" });
  return el("label", {}, wordsOf(name), input);
}

function fileOf(name, { type, null: free }) {
  const accept = type === "sequence" ? ARRAY : "";
  return el("label", { dataset: { part: name } }, wordsOf(name), el("input", { name: PREFIX + name, type: "file", accept, required: !free }));
}

document.addEventListener("language", () => {
  for (const slider of place.querySelectorAll("[type=range]")) slider.dispatchEvent(new Event("filled"));
  for (const [name, { type, size }] of conditionsOf(shown)) if (type === "vector") conditionField(name).placeholder = t("numbers", size ?? 1);
  greyOut();
});

// Parts a field's name: the name of its condition; undefined if it is the field of a parameter.
export const conditionOf = name => (name.startsWith(PREFIX) ? name.slice(PREFIX.length) : undefined);

// Returns the values of the fields, as `condition` of a query.
export function chosenConditions() {
  const fields = [...place.querySelectorAll("[name]")].filter(field => field.type !== "file" && boxOf(field)?.checked !== false && field.value !== "");
  const textOf = ({ type, value }) => (type === "text" ? value.replaceAll(" ", "") : value); // of numbers; a choice may have spaces
  return fields.map(field => `${conditionOf(field.name)}:${textOf(field)}`);
}

// Fills in the fields from a query; a condition that it does not name is left out, or stays if the model needs it. So is
// one whose pictures differ: a model that fills in conditions does so for each seed again.
export function fillConditions(query) {
  const given = new Map();
  for (const [name, pairs] of Map.groupBy(conditionsIn(query), ([name]) => name)) {
    const values = new Set(pairs.map(([, value]) => value));
    if (values.size === 1) given.set(name, ...values);
  }
  for (const [name, condition] of conditionsOf(shown)) {
    const field = conditionField(name);
    if (isFile(condition)) continue;
    const box = boxOf(field);
    if (box) box.checked = given.has(name);
    if (given.has(name)) {
      if (field.type === "range") takeAny(field); // or else the value would be rounded
      field.value = given.get(name);
    } else if (condition.null && !box) field.value = "";
    box?.dispatchEvent(new Event("change"));
    field.dispatchEvent(new Event("filled"));
  }
  greyOut();
}

// Resolves to the conditions that the server fills in for a seed, as a query; undefined for a model without examples.
async function exampleOf(model) {
  if (!models.get(model).examples || fromPicture(model) || conditionsOf(model).some(([, each]) => !each.null)) return undefined;
  const query = new URLSearchParams({ model, seed: randomSeed(), ...leastOf(model) });
  const { params } = await priceOf({ kind: "generate", query, files: [] });
  askConditions(query, { model, conditions: params.conditions });
  return query;
}

const any = all => all[Math.floor(Math.random() * all.length)];

function anything(model) {
  const query = new URLSearchParams();
  const chosen = {};
  const seen = (name, values) => values.filter(value => !neverWith(model, name, value, chosen));
  for (const [name, { type, values, low, high, size }] of conditionsOf(model)) {
    const value = { choice: () => (chosen[name] = any(seen(name, values)) ?? any(values)), number: () => +(low + Math.random() * (high - low)).toPrecision(3), vector: () => Array.from({ length: size }, () => (Math.random() * 2 - 1).toFixed(2)) }[type]?.();
    if (value !== undefined) query.append("condition", `${name}:${value}`);
  }
  return query;
}

// Fills in one example of the model as it is, or of a model without examples anything; and a random class.
export async function surprise(form) {
  const model = shown;
  const query = (await exampleOf(model)) ?? anything(model);
  if (model !== shown) return; // another was chosen meanwhile
  const names = classesOf(models.get(model));
  if (names.length) form.elements.label.value = any(names);
  fillConditions(query);
  form.dispatchEvent(new Event("change"));
}

// The values along an axis of a grid, and how they are chosen.

import { labelOf, seedOf } from "./describe.js";
import { el } from "./dom.js";
import { form } from "./form.js";
import { axisName, PREFIX, sweptBy } from "./gridcard.js";
import { settings } from "./kinds.js";
import { priceOf } from "./making.js";
import { askConditions, classesOf, conditionsIn, conditionsOf, fromPicture, models, neverWith, valuesOf } from "./models.js";
import { shown, t, word } from "./texts.js";

const NUMBERS = { steps: "5, 10, 20, 50", guidance_scale: "1, 2, 4, 8", eta: "0, 0.5, 1", seed: "1, 2, 3, 4" }; // with values to begin with
const CHOICES = {
  sampler: () => [...form.elements.sampler.options].map(({ value }) => value).filter(Boolean),
  label: model => classesOf(models.get(model) ?? {}),
  plan: model => Object.keys(models.get(model)?.plans ?? {}),
  model: () => [...models.values()].filter(each => each.defaults && each.state !== "refused" && !fromPicture(each.name)).map(({ name }) => name),
};
const USUAL = ["ddpm", "ddim", "dpmpp", "unipc"]; // samplers to begin with
const FEW = 4; // choices to begin with
export const MOST = 8; // values of an axis
const PATTERN = "[\\-0-9., ]+"; // of a field for numbers
const STOPS = [0, 0.25, 0.5, 0.75, 1]; // of a number's range
const conditionOf = (axis, model) => Object.fromEntries(conditionsOf(model))[sweptBy(axis)];

// Whether the images of one job can have several values of it.
export const isPerImage = axis => axis === "seed" || axis === "label" || Boolean(sweptBy(axis));

// Returns the words for a value.
export function valueWords(value, axis, model) {
  if (axis === "seed") return value;
  const isWord = typeof value === "string" && (sweptBy(axis) || axis === "label");
  return isWord ? word(model, sweptBy(axis) ?? axis, value) : shown(value);
}

// Returns the values that can be chosen at an axis; undefined if they are numbers.
const choicesAt = (axis, model) => CHOICES[axis]?.(model) ?? conditionOf(axis, model)?.values;

const spread = (all, count) => Array.from({ length: count }, (_, at) => all[Math.floor((at * all.length) / count)]); // from all over the list

// Returns values to begin with, as a list of choices or as the text of numbers.
function usualAt(axis, model) {
  const choices = choicesAt(axis, model);
  if (choices) return axis === "sampler" ? USUAL : spread(choices, Math.min(FEW, choices.length));
  const { low, high } = conditionOf(axis, model) ?? {};
  return NUMBERS[axis] ?? STOPS.map(share => +(low + share * (high - low)).toPrecision(4)).join(", ");
}

// Returns the options of a menu of axes: those of all models, then the conditions of this one.
function axisOptions(model) {
  const swept = conditionsOf(model).filter(([, { type }]) => ["choice", "number"].includes(type));
  const names = [...Object.keys(CHOICES).filter(axis => choicesAt(axis, model).length > 1), ...Object.keys(NUMBERS)];
  return [...names, ...swept.map(([name]) => PREFIX + name)].map(axis => el("option", { value: axis, textContent: axisName(axis, model) }));
}

// Returns the axes that speak to anyone: the two choices of a model that offer most. Without them, how it draws.
function startsOf(model) {
  const choices = conditionsOf(model).filter(([, { type }]) => type === "choice").sort(([, one], [, other]) => other.values.length - one.values.length);
  return choices.length < 2 ? ["sampler", "steps"] : choices.slice(0, 2).map(([name]) => PREFIX + name);
}

// Returns the value of a picture at the first axis; the other one may have changed a plan.
export function valueAt(job, index, axis, other) {
  if (sweptBy(axis)) return Object.fromEntries(valuesOf(job, index))[sweptBy(axis)];
  const plans = () => Object.entries(models.get(job.model)?.plans ?? {});
  const isSame = ([name, value]) => name === other || value === null || job.params[name] === undefined || job.params[name] === value;
  return {
    seed: () => seedOf(job, index),
    label: () => classesOf(models.get(job.model) ?? {})[labelOf(job, index)],
    model: () => job.model,
    plan: () => plans().find(([, plan]) => Object.entries(plan).every(isSame))?.[0],
  }[axis]?.() ?? job.params[axis];
}

// Returns the values in their order: choices as the server lists them, and numbers by size.
export function inOrder(values, axis, model) {
  const all = choicesAt(axis, model);
  return [...new Set(values)].sort((a, b) => (all ? all.indexOf(a) - all.indexOf(b) : a - b));
}

// One axis in the form of the grid: a menu of what it is, and its values, as boxes or as numbers.
export class GridAxis {
  #menu = el("select");
  #place = el("div", { className: "samplers", role: "group" });
  #model;

  constructor(key, at) {
    this.at = at; // 0 of rows, 1 of columns
    this.element = el("fieldset", { className: "axis" }, el("label", {}, el("span", { dataset: { t: key } }), this.#menu), this.#place);
    this.#menu.addEventListener("change", () => this.#offerValues());
  }

  get axis() {
    return this.#menu.value;
  }

  // Those of numbers each once.
  get values() {
    const boxes = [...this.#place.querySelectorAll("[type=checkbox]")];
    if (boxes.length) return boxes.filter(box => box.checked).map(box => box.value);
    const text = this.#place.querySelector("input").value;
    return [...new Set(text.split(/[\s,]+/).filter(Boolean).map(Number))].sort((a, b) => a - b);
  }

  // Offers what a model has. What was chosen stays while it is there, and so do its values.
  offer(model, again = false) {
    const start = startsOf(model)[this.at];
    const chosen = this.axis || start;
    const before = JSON.stringify(choicesAt(chosen, this.#model));
    this.#menu.replaceChildren(...axisOptions(model));
    this.#menu.value = this.has(chosen) ? chosen : start;
    const isOther = this.axis !== chosen || !this.#model || before !== JSON.stringify(choicesAt(chosen, model)) || this.axis.includes(":");
    this.#model = model;
    if (isOther || again) this.#offerValues();
  }

  // An axis cannot be both ways.
  without(other) {
    for (const option of this.#menu.options) option.disabled = option.value === other;
  }

  has(axis) {
    return [...this.#menu.options].some(({ value }) => value === axis);
  }

  // Shows what a grid was drawn of, at an axis that the model has.
  choose(axis, values) {
    this.#menu.value = axis;
    this.#offerValues(values);
  }

  #offerValues(values = usualAt(this.axis, this.#model)) {
    const choices = choicesAt(this.axis, this.#model);
    this.#place.ariaLabel = axisName(this.axis, this.#model);
    if (!choices) return this.#place.replaceChildren(el("input", { value: [values].flat().join(", "), pattern: PATTERN, required: true, ariaLabel: `${axisName(this.axis, this.#model)}: ${t("gridValues")}` }));
    const boxOf = value => el("label", { className: "check" }, el("input", { type: "checkbox", value, checked: values.includes(value) }), el("span", { textContent: valueWords(value, this.axis, this.#model) }));
    this.#place.replaceChildren(...choices.map(boxOf));
  }
}

const OF_SAMPLER = ["sampler", "spacing", "eta", "variance"]; // settings that suit one sampler

// Returns the request for cells that one job can draw. What the form says holds too, where the model and the axes leave it.
export function requestOf(group, axes, { query: base, files, urgency }, { tag, seed }) {
  const drawn = group[0][axes.indexOf("model")] ?? base.get("model");
  const replaced = axes.includes("plan") ? [...settings.keys(), "plan"] : axes.includes("sampler") || axes.includes("model") ? OF_SAMPLER : [];
  const query = new URLSearchParams({ model: drawn, tag });
  for (const name of ["plan", "guide", ...settings.keys()]) if (!axes.includes(name) && !replaced.includes(name) && base.getAll(name).length === 1) query.set(name, base.get(name));
  const [label] = base.getAll("label");
  if (label && !axes.includes("label") && (classesOf(models.get(drawn)).includes(label) || drawn === base.get("model"))) query.set("label", label);
  const known = conditionsOf(drawn).map(([name]) => name);
  for (const [name, value] of conditionsIn(base)) if (known.includes(name) && !axes.includes(`condition:${name}`)) query.append("condition", `${name}:${value}`);
  axes.forEach((axis, at) => {
    if (!isPerImage(axis)) return query.set(axis, group[0][at]);
    for (const asked of group) query.append(sweptBy(axis) ? "condition" : axis, sweptBy(axis) ? `${sweptBy(axis)}:${asked[at]}` : asked[at]);
  });
  if (!axes.includes("seed")) for (const _ of group) query.append("seed", seed);
  return { kind: "generate", query, files: files.filter(([name]) => known.includes(name)), urgency };
}

// Fills in what cells leave out as the server does for one of them: the one whose values were seen with most of the rest.
export async function filledIn(request) {
  const { query } = request;
  const [model, asked] = [query.get("model"), Map.groupBy(conditionsIn(query), ([name]) => name)];
  if (!asked.size || !models.get(model).examples) return request;
  const all = Array.from({ length: query.getAll("seed").length }, (_, at) => [...asked].map(([name, pairs]) => [name, pairs[at % pairs.length][1]]));
  const firsts = [...new Map(all.map(each => [each[0][1], each])).values()]; // one for each value of the first condition
  const dealt = await Promise.all(firsts.map(each => dealtTo(request, each)));
  const unseen = values => all.filter(each => each.some(([name, value]) => neverWith(model, name, value, { ...values, ...Object.fromEntries(each) }))).length;
  const [best] = dealt.sort((one, other) => unseen(one) - unseen(other));
  askConditions(query, { model, conditions: Object.fromEntries(Object.entries(best).filter(([name]) => !asked.has(name)).map(([name, value]) => [name, [value]])) });
  return request;
}

// Resolves to the conditions of one picture, as the server fills them in.
async function dealtTo(request, asked) {
  const query = new URLSearchParams([...request.query].filter(([name]) => !["condition", "seed", "label"].includes(name)));
  for (const name of ["seed", "label"]) if (request.query.has(name)) query.set(name, request.query.get(name));
  for (const [name, value] of asked) query.append("condition", `${name}:${value}`);
  const { params: { conditions = {} } } = await priceOf({ ...request, query });
  return Object.fromEntries(Object.entries(conditions).map(([name, [value]]) => [name, value]));
}

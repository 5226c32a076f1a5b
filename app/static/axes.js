// The columns of a grid: values of a setting, or of a condition of the model.

import { el } from "./dom.js";
import { t, word } from "./texts.js";
import { conditionsIn, conditionsOf } from "./values.js";

export const AXES = { steps: "5, 10, 20, 50", guidance_scale: "1, 2, 4, 8", eta: "0, 0.5, 1" }; // with values to begin with
const PREFIX = "condition:";
const STOPS = [0, 0.25, 0.5, 0.75, 1]; // of a number's range

// The condition that an axis names, if it names one.
export const sweptBy = axis => (axis.startsWith(PREFIX) ? axis.slice(PREFIX.length) : undefined);
export const axisName = (axis, model) => (sweptBy(axis) ? word(model, sweptBy(axis)) : t(`gridOf_${axis}`));
const conditionOf = (axis, model) => Object.fromEntries(conditionsOf(model))[sweptBy(axis)];
export const isChoice = (axis, model) => conditionOf(axis, model)?.type === "choice";

// Puts the conditions of a model among the options of a menu; returns whether what was chosen is still there.
export function offerAxes(menu, model) {
  const chosen = menu.value;
  menu.querySelectorAll("[data-condition]").forEach(each => each.remove());
  const swept = conditionsOf(model).filter(([, { type }]) => ["choice", "number"].includes(type));
  menu.append(...swept.map(([name]) => el("option", { value: PREFIX + name, textContent: word(model, name), dataset: { condition: name, word: name, model } })));
  menu.value = [...menu.options].some(({ value }) => value === chosen) ? chosen : "steps";
  return menu.value === chosen;
}

// Returns values to begin with, as text: all of a choice, and some of a number.
export function usualValues(axis, model) {
  const { values, low, high } = conditionOf(axis, model) ?? {};
  return AXES[axis] ?? (values ?? STOPS.map(share => +(low + share * (high - low)).toPrecision(4))).join(", ");
}

// Returns the values of a text, each once: those of a choice as they stand, and numbers in their order.
export function valuesIn(text, axis, model) {
  if (isChoice(axis, model)) return [...new Set(text.split(",").map(each => each.trim()).filter(Boolean))];
  return [...new Set(text.split(/[\s,]+/).filter(Boolean).map(Number))].sort((a, b) => a - b);
}

// Makes a query ask for a value at an axis, and for all conditions of another query but that of the axis.
export function askAt(query, axis, value, base) {
  const swept = sweptBy(axis);
  for (const [name, each] of conditionsIn(base)) if (name !== swept) query.append("condition", `${name}:${each}`);
  if (swept) query.append("condition", `${swept}:${value}`);
  else query.set(axis, value);
}

// Returns the value of a job at an axis.
export const valueAt = ({ params }, axis) => (sweptBy(axis) ? params.conditions?.[sweptBy(axis)]?.[0] : params[axis]);

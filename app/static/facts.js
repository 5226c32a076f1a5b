// The facts of a picture, as a list of terms.

import { labelOf } from "./describe.js";
import { el } from "./dom.js";
import { settings } from "./kinds.js";
import { className } from "./models.js";
import { known, number, shown, t, word } from "./texts.js";
import { textOf, valuesOf } from "./values.js";

const ALWAYS = ["sampler", "steps", "spacing"];

// Returns the settings of a run, from its parameters or a recipe, as pairs of a term and a text; those that are as usual are left out.
export const settingsOf = params => [...settings]
  .filter(([name, usual]) => (params[name] ?? null) !== null && (ALWAYS.includes(name) || params[name] !== usual))
  .map(([name]) => [known(name, name), shown(params[name])]);

export const termsOf = facts => facts.flatMap(([term, text]) => [el("dt", { textContent: term }), el("dd", { textContent: text })]);

export function factsOf({ model, params, kind, task }, index) {
  const label = labelOf({ params }, index);
  const facts = [[t("model"), model]];
  if (label !== undefined) facts.push([t("class"), className(model, label)]);
  facts.push(...valuesOf({ params }, index).map(([name, value]) => [word(model, name), textOf(value, model, name)]));
  facts.push(...settingsOf(params));
  if (kind === "restore" && task.sigma) facts.push([t("noise"), number(task.sigma, 1)]);
  return el("dl", {}, ...termsOf(facts));
}

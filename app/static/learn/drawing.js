// The screens on which what is asked for moves: the same seeds with other guidance, another condition, another number of calls.

import { el } from "../dom.js";
import { models } from "../models.js";
import { duration, t, word } from "../texts.js";
import { asking, sliderOf } from "./parts.js";
import { draw } from "./network.js";
import { Scene, smallest } from "./scene.js";

const COUNT = 4; // pictures
const SCALES = [1, 1.5, 2, 3, 5, 8];
const CALLS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

// The choices of a model, its classes among them, as pairs of a name and what the server says of it.
const choicesOf = model => Object.entries(models.get(model).conditions ?? {}).filter(([, { type }]) => type === "choice");
const canGuide = model => models.get(model).weaker || choicesOf(model).some(([, each]) => each.null);
const asQuery = (name, value) => (name === "label" ? { label: value } : { condition: `${name}:${value}` });

// Returns the model that shows a screen: that of the scene, or the smallest that can.
const modelFor = ({ model }, can) => (can(model) ? model : smallest(can));

// The settings of a plan with few calls.
function fewOf(model) {
  const [plan] = Object.entries(models.get(model).plans).toSorted(([, a], [, b]) => a.steps - b.steps);
  return plan ? { plan: plan[0] } : { steps: Math.min(16, models.get(model).defaults.steps) };
}

// Draws the same seeds for each place of a slider; `settingsOf` has the settings of one.
function drawing({ seed }, model, label, values, at, wordsOf, settingsOf) {
  const figures = Array.from({ length: COUNT }, (_, index) => new Scene(model).figure(`drawn-${index}`, `${t("seed")} ${seed + index}`));
  const { element: alarm, ask } = asking(...figures);
  const slider = sliderOf(label, values.length, at, index => wordsOf(values[index]), index =>
    ask(() => draw(model, { seed, n: COUNT, trace: "last", ...settingsOf(values[index]) }), ({ states }) => figures.forEach((figure, each) => figure.paint(states[each]))));
  return [el("div", { className: "equation" }, ...figures.map(each => each.element)), slider, el("p", { className: "hint", textContent: t("learnDrawnBy", model) }), alarm];
}

const nobody = () => [el("p", { className: "error", textContent: t("learnNoModel") })];

export function guidance(scene) {
  const model = modelFor(scene, canGuide);
  if (!model) return nobody();
  const [name, { values }] = choicesOf(model).find(([, each]) => each.null) ?? choicesOf(model)[0] ?? ["", { values: [] }];
  const asked = values.length ? asQuery(name, values[0]) : {};
  return drawing(scene, model, t("learnScale"), SCALES, 0, scale => `w = ${scale}`, scale => ({ ...asked, guidance_scale: scale, ...fewOf(model) }));
}

export function conditions(scene) {
  const model = modelFor(scene, each => choicesOf(each).length);
  if (!model) return nobody();
  const [name, { values }] = choicesOf(model).find(([, each]) => each.values.length > 8) ?? choicesOf(model)[0];
  return drawing(scene, model, name === "label" ? t("class") : word(model, name), values, 0, value => word(model, name, value), value => ({ ...asQuery(name, value), ...fewOf(model) }));
}

export function calls(scene) {
  const { model } = scene;
  const { rate } = models.get(model);
  const words = count => t("learnCalls", count, rate ? duration((COUNT * count) / rate) : "");
  return drawing(scene, model, t("steps"), CALLS, 0, words, steps => ({ steps, sampler: "ddim", eta: 0 }));
}

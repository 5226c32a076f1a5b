// The models of the server, as GET /models tells.

import { ask } from "./api.js";
import { number, t } from "./texts.js";

export const models = new Map();
export let defaultModel;

export async function loadModels() {
  const list = await ask("GET", "/models");
  defaultModel = list.default;
  for (const model of list.models) models.set(model.name, model);
}

export const sizeOf = name => models.get(name)?.image_size ?? 64;

// Returns the names of the classes that a label can be; none if the model has no classes.
export function classesOf({ classes, classifier_classes }) {
  return classes ?? Array.from({ length: classifier_classes ?? 0 }, (_, index) => String(index));
}

export function className(model, index) {
  return models.get(model)?.classes?.[index] ?? String(index);
}

export function factsOf({ image_size, defaults, rate, reason }) {
  const speed = rate ? t("speed", number(rate)) : (reason ?? t("noWorker"));
  return t("modelFacts", image_size, defaults.sampler, defaults.steps, speed);
}

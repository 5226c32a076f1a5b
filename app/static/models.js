// The models of the server, from GET /models.

import { ask } from "./api.js";
import { labels, word } from "./texts.js";

export const models = new Map();
export let defaultModel;

// Reads the models; the event `models` says that some have come or gone.
export async function loadModels() {
  const list = await ask("GET", "/models");
  const before = [...models.keys()];
  defaultModel = list.default;
  models.clear();
  for (const model of list.models) {
    models.set(model.name, model);
    labels.set(model.name, model.labels);
  }
  if (`${before}` !== `${[...models.keys()]}`) document.dispatchEvent(new Event("models"));
}

// Returns width and height of a model's pictures; the API has the side of a square, or height and width.
export function sidesOf(name) {
  const size = models.get(name)?.image_size ?? 64;
  return Array.isArray(size) ? size.toReversed() : [size, size];
}

// The longer side, by which pictures are shown at whole multiples.
export const sizeOf = name => Math.max(...sidesOf(name));

// The pictures of a job are those of its model, or of the model that enlarged them.
export const drawnBy = ({ model, task }) => task?.upscale?.model ?? model;

// The models that draw from a picture, such as those that enlarge one, and those that draw from noise.
export const fromPicture = name => Boolean(models.get(name)?.condition);

// Returns what a label can be: the classes by names of which no two are the same; none if the model has no classes.
export function classesOf({ classes, conditions, classifier_classes }) {
  return conditions?.label?.values ?? classes ?? Array.from({ length: classifier_classes ?? 0 }, (_, index) => String(index));
}

// Returns how a request names a class, or several, which jobs and recipes hold as an index: a number can be another's name.
export function labelFor(model, label) {
  const names = classesOf(models.get(model) ?? {});
  return [label].flat().map(index => names[index] ?? index);
}

// What a request to a model has to name: its first class, if it draws none without one.
export const leastOf = model => (models.get(model).label_required ? { label: labelFor(model, 0) } : {});

// The models whose pictures the lesson can noise: in grey or colour, of those that need nothing but a class.
const needsNothing = ({ conditions = {} }) => Object.entries(conditions).every(([name, each]) => name === "label" || each.null);
export const teachable = () => [...models.values()].filter(model => model.defaults && model.state !== "refused" && needsNothing(model) && [1, 3].includes(model.channels));

export const enlargersOf = ({ image_size: size, channels }) =>
  [...models.values()].filter(({ condition: to }) => String(to?.size) === String(size) && to.channels === channels);

export function className(model, index) {
  return word(model, "label", models.get(model)?.classes?.[index] ?? String(index));
}

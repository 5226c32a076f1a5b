// The models of the server, from GET /models, and the conditions of pictures: for each name one value, or one for each picture.

import { ask } from "./api.js";
import { recall } from "./saved.js";
import { labels, shown, word } from "./texts.js";

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

export const className = (model, index) => word(model, "label", models.get(model)?.classes?.[index] ?? String(index));

const FILES = ["image", "map", "sequence"]; // types of conditions that are files
const MOST = 80; // characters of a value: a vector may have thousands of numbers

// The conditions of a model that have fields of their own, as pairs of a name and what the server says of it.
export function conditionsOf(model) {
  const { conditions = {}, condition } = models.get(model) ?? {};
  return Object.entries(conditions).filter(([name]) => name !== "label" && !(condition && name === "image"));
}

export const isFile = ({ type }) => FILES.includes(type);
export const filesOf = model => conditionsOf(model).filter(([, each]) => isFile(each)).map(([name]) => name);

// Resolves to the files of a job's conditions, as pairs of a name and a file, if this browser sent them.
export async function filesSent(job) {
  const names = filesOf(job.model);
  return names.length ? ((await recall(job.id))?.files ?? []).filter(([name]) => names.includes(name)) : [];
}

// Returns the chosen values with which a model never saw a value of a condition, as [name, value]; undefined if it saw all.
export function neverWith(model, name, value, chosen) {
  const entry = models.get(model)?.never?.find(entry => Object.entries(entry).every(([each, values]) => values.includes(each === name ? value : chosen[each])) && name in entry);
  return entry && Object.keys(entry).filter(each => each !== name).map(each => [each, chosen[each]]);
}

export const valuesOf = ({ params }, index) =>
  Object.entries(params.conditions ?? {}).map(([name, values]) => [name, values[index % values.length]]);

// Returns the words for a value of a model's condition, which may be a list of numbers.
export const textOf = (value, model, name) => [value].flat().map(each => (typeof each === "string" ? word(model, name, each) : shown(each))).join(", ").slice(0, MOST);

// Makes a query ask for conditions, of one picture or without an index of all; those that are files are sent as such.
export function askConditions(query, { model, conditions = {} }, index) {
  const files = filesOf(model);
  for (const [name, values] of Object.entries(conditions)) {
    if (files.includes(name)) continue;
    for (const value of index === undefined ? values : [values[index % values.length]]) query.append("condition", `${name}:${value}`);
  }
}

// Returns the conditions of a query as pairs of a name and a value.
export const conditionsIn = query => query.getAll("condition").map(each => [each.slice(0, each.indexOf(":")), each.slice(each.indexOf(":") + 1)]);

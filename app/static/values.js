// The conditions of a picture, as jobs and recipes say it: for each name one value, or one for each picture.

import { models } from "./models.js";
import { recall } from "./saved.js";
import { shown, word } from "./texts.js";

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

// Returns the chosen values with which a model has never seen a value of a condition, as pairs of a name and a value; undefined if
// it has seen all.
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

// What a grid can be of: a setting, the seed, the class, the plan, the model, or a condition of the model.

import { randomSeed } from "./classes.js";
import { t, word } from "./texts.js";

export const PREFIX = "condition:";
const AXIS = `sampler|label|plan|model|steps|guidance_scale|eta|seed|${PREFIX}[a-z0-9_]+`;
const TAG = new RegExp(`^grid:(?:(${AXIS}):)?(${AXIS}):[0-9a-f]+$`);

// The condition that an axis names, if it names one.
export const sweptBy = axis => (axis.startsWith(PREFIX) ? axis.slice(PREFIX.length) : undefined);

// The tag of a new grid. It is short: a tag has at most 64 characters.
export const newTag = axes => `grid:${axes.join(":").replaceAll(PREFIX, "c:")}:${randomSeed().toString(16)}`;

// Returns the axes of a grid by its tag, rows first; undefined if it is the tag of anything else. Earlier grids name their columns only.
export function axesOf(tag) {
  const [, rows, columns] = TAG.exec(tag?.replace(/:c(?=:)/g, ":condition") ?? "") ?? [];
  return columns && [rows ?? "sampler", columns];
}

export function axisName(axis, model) {
  const name = sweptBy(axis) ? word(model, sweptBy(axis)) : t(axis === "label" ? "class" : axis);
  return name[0].toUpperCase() + name.slice(1);
}

// What can be changed of a picture where it is shown, and the requests that change it.

import { fromNoise, labelOf } from "../describe.js";
import { classesOf, conditionsOf, isFile, labelFor, models, textOf, valuesOf } from "../models.js";
import { recall } from "../saved.js";
import { UNLISTED } from "../store.js";
import { number, t, word } from "../texts.js";

const FEW = 8; // steps of a sketch where the model has no plan
const MOST_GUIDANCE = 8; // unless the picture has more
const OF_PLAN = ["sampler", "steps", "spacing", "eta", "variance"]; // settings that a plan replaces

// Returns what can be changed of a picture. Each part has a name, words, a type, its present value, which is undefined where it
// is left out, `free` if it may be, and `ask`, which makes a query ask for other values, or with none of them for it to be left out.
export function partsOf(job, index) {
  const model = models.get(job.model);
  const [values, classes, label, scale] = [new Map(valuesOf(job, index)), classesOf(model), labelOf(job, index), job.params.guidance_scale];
  const asking = (isOurs, said) => (query, wanted) => { // in the place of the values before, so that the order stays
    const [first, rest] = [[...query].findIndex(pair => isOurs(...pair)), [...query].filter(pair => !isOurs(...pair))];
    return new URLSearchParams(rest.toSpliced(first < 0 ? rest.length : first, 0, ...wanted.map(said)));
  };
  const setting = (name, facts) => ({ ...facts, name, ask: asking(key => key === name, value => [name, value]) });
  const parts = conditionsOf(job.model).filter(([, each]) => !isFile(each)).map(([name, facts]) => ({
    ...facts, model: job.model, name, words: word(job.model, name), free: facts.null && !model.examples, value: values.get(name),
    ask: asking((key, value) => key === "condition" && value.startsWith(`${name}:`), value => ["condition", `${name}:${value}`]),
  }));
  const own = label === undefined ? undefined : labelFor(job.model, label)[0];
  if (classes.length) parts.unshift(setting("label", { words: t("class"), model: job.model, type: "choice", values: classes, free: !model.label_required, value: own }));
  const isGuided = model.weaker || ((values.size || own) && Object.values(model.conditions ?? {}).some(each => each.null));
  if (isGuided) parts.push(setting("guidance_scale", { words: t("guidance_scale"), type: "number", low: 0, high: Math.max(MOST_GUIDANCE, scale), step: 0.1, value: scale }));
  return parts;
}

export function wordsFor({ type, model, name, unit = "", step = 1 }, value) {
  if (value === undefined) return t("anyClass");
  return type === "number" ? `${number(value, step % 1 ? 1 : value % 1 ? 2 : 0)} ${unit}`.trim() : textOf(value, model, name);
}

// Whether a picture can be changed: one between two is of neither, a mean of no seed, and noise that was sent is not there.
export const isEditable = (job, index) =>
  job.kind !== "interpolate" && !job.task?.average && job.task?.mode !== "mmse" && !fromNoise(job) && Boolean(models.get(job.model)?.defaults) && partsOf(job, index).length > 0;

// Resolves to the files of a picture's request, {files, fit}; undefined if this browser did not send them.
export async function sentWith(job) {
  const hasFiles = job.pictures?.length || conditionsOf(job.model).some(([name, each]) => isFile(each) && name in (job.params.conditions ?? {}));
  return (await recall(job.id)) ?? (hasFiles ? undefined : { files: [] });
}

// Returns a query for one picture of each value of a part, with all else the same.
export function withEach(query, part, values) {
  const kept = [...part.ask(query, values)].filter(([name]) => !["n", "seed"].includes(name));
  return new URLSearchParams([...kept, ...Array(values.length || 1).fill(["seed", query.get("seed")])]);
}

// Returns the request of a sketch, by which a reader chooses: not enlarged, listed nowhere, and drawn by the plan `live`, or else
// by the one of the fewest steps, or else in few steps by the model's settings; but not in more than the picture itself.
export function sketchOf({ kind, query, files }) {
  const { plans = {}, defaults } = models.get(query.get("model"));
  const [plan, { steps }] = Object.entries(plans).sort(([a, one], [b, other]) => (b === "live") - (a === "live") || one.steps - other.steps)[0] ?? ["", { steps: FEW }];
  const isShort = Number(query.get("steps")) <= steps;
  const sketch = new URLSearchParams([...query].filter(([key]) => !key.startsWith("upscale") && (isShort || !OF_PLAN.includes(key))));
  sketch.set("tag", UNLISTED);
  if (!isShort) sketch.set(...(plan && kind !== "restore" ? ["plan", plan] : ["steps", steps]));
  if (!isShort && !plan && defaults.sampler === "ddpm") sketch.set("sampler", "ddim"); // which draws well in few steps
  return { kind, query: sketch, files };
}

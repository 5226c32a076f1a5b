// Words for jobs and their pictures, and the requests that make them again.

import { el } from "./dom.js";
import { settings } from "./kinds.js";
import { askConditions, className, labelFor, models, textOf, valuesOf } from "./models.js";
import { duration, known, moment, number, shown, t, word } from "./texts.js";

export const countOf = job => (job.task?.average ? 1 : job.params.n);

export function titleOf(job) {
  const { kind, params, task } = job;
  const what = {
    generate: () => (task?.upscale ? t("enlarged", params.n, task.upscale.model) : t("pictures", params.n)),
    upscale: () => t("enlargedOne", params.n),
    interpolate: () => t(task.seeds ? "betweenSeeds" : "betweenPictures", params.n),
    denoise: () => (task.sigma === undefined ? t("drawnAnew", countOf(job)) : t("denoised", number(task.sigma, 1), task.estimated)),
    restore: () => t("restored", known(`task_${task.task}`, task.task)),
  }[kind];
  return what?.() ?? `${t("pictures", countOf(job))} · ${kind}`;
}

export function metaOf(job) {
  const { model, params, timings, accepted_at } = job;
  const parts = [model, t("samplerSteps", params.sampler, params.steps)];
  if (typeof params.label === "number") parts.unshift(className(model, params.label)); // of several, each picture has its own
  if (params.guidance_scale !== 1) parts.push(t("guided", number(params.guidance_scale, 1)));
  if (timings.total !== undefined) parts.push(duration(timings.total));
  return [...parts, moment(accepted_at)].join(" · ");
}

export const seedOf = ({ params, task }, index) =>
  Array.isArray(params.seed) ? params.seed[index] : params.seed + (task?.shares ? 0 : index);

export const labelOf = ({ params }, index) => (Array.isArray(params.label) ? params.label[index] : params.label);

export function nameOf(job, index) {
  const { model, params, task } = job;
  if (task?.shares) return `λ ${number(task.shares[index], 2)}`;
  if (task?.average) return t("meanOf", params.n);
  const name = Array.isArray(params.label) ? [className(model, params.label[index])] : [];
  return [`${t("seed")} ${seedOf(job, index)}`, ...name, ...conditionsApart(job, index)].join(", ");
}

// Returns how the conditions of a picture differ from those of the other pictures of its seed.
function conditionsApart(job, index) {
  const isTwin = each => seedOf(job, each) === seedOf(job, index);
  const several = Object.entries(job.params.conditions ?? {}).filter(([, values]) => values.length > 1)
    .map(([name, values]) => values.map(value => textOf(value, job.model, name)));
  return several.filter(texts => texts.some((text, each) => text !== texts[index] && isTwin(each))).map(texts => texts[index]);
}

// How a picture enters /denoise: noisy by sigma, by what is estimated anew, or clean and noised to a part of T.
function entryOf({ sigma, estimated, depth }, model) {
  if (estimated || depth === undefined) return {};
  if (sigma !== undefined && sigma !== null) return { sigma };
  return { strength: (depth + 1) / (models.get(model)?.num_train_timesteps ?? 1000) };
}

// How far a job is, in steps of each picture: the server counts those of all pictures together.
export function stepsOf({ steps: { done, total }, params }) {
  const each = params.steps <= total ? params.steps : total;
  return [Math.floor((done / Math.max(1, total)) * each), each];
}

// The parameters of a kind's own, as its request takes them; a kind that a server adds takes its task as it is.
export function taskQuery({ kind, task, model }) {
  if (kind === "generate") {
    const { model: upscale, steps, augmentation } = task?.upscale ?? {};
    return upscale ? { upscale, upscale_steps: steps, upscale_augmentation: augmentation } : {};
  }
  if (kind === "interpolate") {
    const { shares, depth, mode, noise, seeds } = task;
    return seeds ? { lambda: shares } : { lambda: shares, t: depth, mode, ...(mode === "ddpm" && { noise }) };
  }
  if (kind === "denoise") {
    const { mode, average } = task;
    return { ...entryOf(task, model), mode, ...(average && { average }) };
  }
  if (kind === "restore") {
    const { task: name, factor, blur, width, sigma } = task;
    return { task: name, sigma, ...(name === "superres" && { factor }), ...(name === "deblur" && { blur, width }) };
  }
  const { kind: _, ...own } = task ?? {};
  return own;
}

// Adds values to a query, those of lists one by one; without those that are not given.
export function fillQuery(query, values) {
  for (const [name, value] of Object.entries(values)) for (const each of [value].flat()) if (each !== undefined && each !== null) query.append(name, each);
}

// Returns the query that makes all pictures of a job again, or only one of them, to the last bit.
export function queryOf(job, index) {
  const { params: { conditions, ...params }, task } = job;
  const alone = index !== undefined && !task?.average;
  const query = new URLSearchParams({ model: job.model });
  const own = taskQuery(job);
  if (alone && own.lambda) own.lambda = own.lambda[index];
  const seed = alone ? seedOf(job, index) : params.seed;
  const changed = { ...params, seed: task?.seeds ?? seed, label: labelFor(job.model, alone ? labelOf(job, index) : params.label), bits: job.bits, ...own };
  if (task?.shares) delete changed.n; // it follows from them
  else if (alone) changed.n = 1;
  fillQuery(query, changed);
  askConditions(query, { model: job.model, conditions }, alone ? index : undefined);
  if (job.pictures && models.get(job.model)?.examples && !query.has("condition")) query.set("condition", ""); // none is to be found
  return query;
}

// Returns the query of other pictures like one: without what each has of its own.
export function queryLike(job, index) {
  const query = queryOf(job, index);
  for (const name of ["n", "seed", "lambda", "upscale", "upscale_steps", "upscale_augmentation"]) query.delete(name);
  return query;
}

// Whether the pictures began in noise that came with the request; the page has no field for it.
export const fromNoise = ({ kind = "generate", pictures }) => kind === "generate" && Boolean(pictures?.length);
export const fileName = (job, index) => `difuso-${job.model}-${nameOf(job, index).replace(/[^\p{L}\p{N}.]+/gu, "-")}.png`;

// Returns the conditions that the server found for the picture of a job, in words; undefined if the job has none.
export function foundWords({ model, params, task }) {
  const found = Object.entries(params.conditions ?? {}).map(([name, [value]]) => `${word(model, name)}: ${textOf(value, model, name)}`);
  return task?.probes && found.length ? t("foundFor", found.join(", ")) : undefined;
}

// The address of a picture; with API keys it is signed, so that an <img> can load it.
export const addressOf = (job, index) => job.links.images && (job.links.signed ?? job.links.images)[index];

// The address of the picture that stands for an image which is not a PNG, of other than 1 or 3 channels.
export const shownOf = (job, index) => job.links.pictures && (job.links.signed ?? job.links.pictures)[index];
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

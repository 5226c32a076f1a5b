// The eight neighbours of a picture, which a person tells apart at a glance, and words for how each differs.

import { addressOf, fileName, fromNoise, labelOf, nameOf, queryOf, seedOf } from "./describe.js";
import { fetchFile } from "./inputs.js";
import { randomSeed } from "./modelfields.js";
import { className, conditionsOf, filesSent, labelFor, models, neverWith, textOf, valuesOf } from "./models.js";
import { number, t, word } from "./texts.js";

export const AROUND = 8; // pictures
const CHANGED = 5; // of them with another value of a condition, or another class
const SEEDS = 2; // of them from other seeds
const STRENGTHS = [0.7, 0.8, 0.9]; // of redraws: with less noise a picture looks the same
const ALONG = [0.12, 0.25, 0.4, 0.6]; // how far to go on the way between two seeds
export const ELSEWHERE = ["n", "seed", "lambda", "upscale", "upscale_steps", "upscale_augmentation"]; // what neighbours have of their own

// Resolves to requests for eight pictures in all: its seed with one condition changed in each, two other seeds with the same
// conditions, more of the way if it lies between two seeds, and for the rest the picture redrawn, the nearest first.
export async function neighboursOf(job, index) {
  const file = await fetchFile(addressOf(job, index), fileName(job, index));
  const sent = await filesSent(job);
  const same = queryOf(job, index);
  for (const name of ELSEWHERE) same.delete(name);
  const ways = { generate: () => [...ofOthers(job, index, same), ofSeeds(same)], interpolate: () => ofTwoSeeds(job, index, same) };
  const others = fromNoise(job) ? [] : (ways[job.kind]?.() ?? []); // which begin in the noise of a seed
  const left = AROUND - others.reduce((sum, { count }) => sum + count, 0);
  const strengths = STRENGTHS.slice(0, left);
  const redraws = strengths.map((strength, each) => {
    const n = Math.floor((left + each) / strengths.length); // the sum is what is left
    const query = new URLSearchParams({ model: job.model, strength, n, seed: randomSeed() });
    const label = labelOf(job, index);
    if (label !== undefined) query.set("label", labelFor(job.model, label));
    for (const each of same.getAll("condition")) query.append("condition", each);
    return { kind: "denoise", query, files: [["image", file], ...sent] };
  });
  return [...others.map(each => ({ ...each, files: sent })), ...redraws];
}

const asking = (query, lists) => new URLSearchParams([...query, ...Object.entries(lists).flatMap(([name, values]) => values.map(value => [name, value]))]);
const some = (all, most) => all.map(each => [Math.random(), each]).sort(([a], [b]) => a - b).slice(0, most).map(([, each]) => each);

// The same seed with one condition changed to a value that was seen with the others; or, without conditions, another class.
function ofOthers(job, index, same) {
  const now = Object.fromEntries(valuesOf(job, index));
  const changed = conditionsOf(job.model).flatMap(([name, { type, values, low, high }]) => {
    const all = { choice: () => values.filter(value => !neverWith(job.model, name, value, now)), number: () => [low, high] }[type]?.() ?? [];
    return some(all.filter(value => value !== now[name]), 1).map(value => [name, value]);
  });
  if (changed.length) return some(changed, CHANGED).map(([name, value]) => ({ kind: "generate", query: changing(same, name, value, seedOf(job, index)), count: 1 }));
  const classes = [...(models.get(job.model)?.classes ?? []).keys()].filter(each => each !== labelOf(job, index));
  const label = some(classes, CHANGED);
  const query = asking([...same].filter(([name]) => name !== "label"), { label: labelFor(job.model, label), seed: label.map(() => seedOf(job, index)) });
  return label.length ? [{ kind: "generate", query, count: label.length }] : [];
}

function changing(same, name, value, seed) {
  const kept = [...same].filter(([key, each]) => key !== "condition" || !each.startsWith(`${name}:`));
  return new URLSearchParams([...kept, ["condition", `${name}:${value}`], ["seed", seed]]);
}

const ofSeeds = same => ({ kind: "generate", query: asking(same, { seed: Array.from({ length: SEEDS }, randomSeed) }), count: SEEDS });

function ofTwoSeeds({ task }, index, same) {
  if (!task?.seeds) return [];
  const here = task.shares[index];
  const around = ALONG.flatMap(by => [here - by, here + by]).filter(share => share >= 0 && share <= 1).slice(0, CHANGED);
  const lambda = around.sort((a, b) => a - b).map(share => +share.toFixed(4));
  return [{ kind: "interpolate", query: asking(same, { seed: task.seeds, lambda }), count: lambda.length }];
}

export function differenceOf(job, index, centre) {
  const { task } = job;
  if (task?.kind === "denoise") {
    const strength = (task.depth + 1) / (models.get(job.model)?.num_train_timesteps ?? 1000);
    return t("likeRedrawn", STRENGTHS.filter(each => each < strength - 0.01).length);
  }
  if (task?.shares) return t("likeBetween", number(100 * task.shares[index]));
  const before = new Map(valuesOf(centre.job, centre.index));
  const changed = valuesOf(job, index).filter(([name, value]) => typeof value !== "object" && value !== before.get(name));
  if (changed.length) return changed.map(([name, value]) => `${word(job.model, name)}: ${textOf(value, job.model, name)}`).join(", ");
  const label = labelOf(job, index);
  if (typeof label === "number" && label !== labelOf(centre.job, centre.index)) return className(job.model, label);
  return seedOf(job, index) === seedOf(centre.job, centre.index) ? nameOf(job, index) : t("likeSeed");
}

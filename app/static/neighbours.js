// The eight neighbours of a picture: requests for pictures that are like it, and words for how each differs.

import { randomSeed } from "./classes.js";
import { addressOf, fileName, fromNoise, labelOf, nameOf, queryOf, seedOf } from "./describe.js";
import { fetchFile } from "./inputs.js";
import { className, labelFor, models } from "./models.js";
import { number, t } from "./texts.js";
import { conditionsOf, filesSent, textOf, valuesOf } from "./values.js";

const STRENGTHS = [0.2, 0.4, 0.6]; // of redraws
const SHARES = [0.12, 0.25, 0.4]; // of the other seed
export const NOISY = ["ddpm", "dpmpp_sde", "lcm", "dpm2_ancestral"]; // samplers that always draw noise on the way
export const AROUND = 8; // pictures
const ALONG = [0.06, 0.12, 0.25, 0.4, 0.6]; // how far to go on the way between two seeds
export const ELSEWHERE = ["n", "seed", "lambda", "upscale", "upscale_steps", "upscale_augmentation"]; // what neighbours have of their own

// Resolves to requests for eight pictures in all: its seed with two other classes, if there are any; if no noise was drawn on
// the way, what lies towards another seed, or more of the way between its two seeds; and for the rest the picture redrawn.
export async function neighboursOf(job, index) {
  const file = await fetchFile(addressOf(job, index), fileName(job, index));
  const sent = await filesSent(job);
  const same = queryOf(job, index);
  for (const name of ELSEWHERE) same.delete(name);
  const onTheWay = drawsNoise(job) ? [] : job.kind === "generate" ? ofSeed(job, index, same) : ofTwoSeeds(job, index, same);
  const others = fromNoise(job) ? [] : [...onTheWay, ...ofOthers(job, index, same)]; // which begin in the noise of its seed
  const left = AROUND - others.reduce((sum, { count }) => sum + count, 0);
  const redraws = STRENGTHS.map((strength, each) => {
    const n = Math.floor((left + each) / STRENGTHS.length); // the sum of the three is what is left
    const query = new URLSearchParams({ model: job.model, strength, n, seed: randomSeed() });
    const label = labelOf(job, index);
    if (label !== undefined) query.set("label", labelFor(job.model, label));
    for (const each of same.getAll("condition")) query.append("condition", each);
    return { kind: "denoise", query, files: [["image", file], ...sent] };
  });
  return [...redraws, ...others.map(each => ({ ...each, files: sent }))];
}

// Whether chance has a part in a run beyond its beginning.
export const drawsNoise = ({ params }) => NOISY.includes(params.sampler) || params.eta > 0;

const asking = (query, lists) => new URLSearchParams([...query, ...Object.entries(lists).flatMap(([name, values]) => values.map(value => [name, value]))]);

// The same seed with one condition changed: the class, or a choice or a number.
function ofOthers(job, index, same) {
  if (job.kind !== "generate") return [];
  const changed = conditionsOf(job.model).flatMap(([name, { type, values, low, high }]) => {
    const all = { choice: () => values, number: () => [low, high, (low + high) / 2] }[type]?.() ?? [];
    return all.filter(value => !same.getAll("condition").includes(`${name}:${value}`)).map(value => [name, value]);
  }).sort(() => Math.random() - 0.5).slice(0, 2);
  if (changed.length) return changed.map(([name, value]) => ({ kind: "generate", query: changing(same, name, value, seedOf(job, index)), count: 1 }));
  const classes = models.get(job.model)?.classes ?? [];
  const label = classes.map((_, each) => each).filter(each => each !== labelOf(job, index)).sort(() => Math.random() - 0.5).slice(0, 2);
  const query = asking([...same].filter(([name]) => name !== "label"), { label: labelFor(job.model, label), seed: label.map(() => seedOf(job, index)) });
  return label.length ? [{ kind: "generate", query, count: label.length }] : [];
}

function changing(same, name, value, seed) {
  const kept = [...same].filter(([key, each]) => key !== "condition" || !each.startsWith(`${name}:`));
  return new URLSearchParams([...kept, ["condition", `${name}:${value}`], ["seed", seed]]);
}

function ofSeed(job, index, same) {
  const query = asking(same, { seed: [seedOf(job, index), randomSeed()], lambda: SHARES });
  return [{ kind: "interpolate", query, count: SHARES.length }];
}

function ofTwoSeeds({ task }, index, same) {
  if (!task?.seeds) return [];
  const here = task.shares[index];
  const around = ALONG.flatMap(by => [here - by, here + by]).filter(share => share >= 0 && share <= 1).slice(0, 5);
  const lambda = around.sort((a, b) => a - b).map(share => +share.toFixed(4));
  return [{ kind: "interpolate", query: asking(same, { seed: task.seeds, lambda }), count: lambda.length }];
}

// Says how a picture differs from the centre.
export function differenceOf(job, index, centre) {
  const { task } = job;
  const before = new Map(valuesOf(centre.job, centre.index));
  const changed = valuesOf(job, index).filter(([name, value]) => typeof value !== "object" && value !== before.get(name)).map(([, value]) => textOf(value));
  if (task?.kind === "denoise") return t("likeRedrawn", number((task.depth + 1) / (models.get(job.model)?.num_train_timesteps ?? 1000), 1));
  if (task?.shares) return t("likeTowards", number(100 * task.shares[index]), task.seeds?.[1]);
  if (changed.length) return changed.join(", ");
  const label = labelOf(job, index);
  return typeof label === "number" ? className(job.model, label) : nameOf(job, index);
}

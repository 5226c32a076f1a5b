// What the lesson asks the server: runs whose states and predictions come as floats. They are no jobs of the gallery.

import { request } from "../api.js";
import { leastOf, models } from "../models.js";
import { readNpz } from "../npz.js";
import { UNLISTED } from "../store.js";
import { t } from "../texts.js";

export const SAMPLERS = { ddim: { sampler: "ddim", eta: 0 }, ddpm: { sampler: "ddpm", variance: "fixed_small" } };
const asked = new Map(); // a promise of each answer, by what was asked; a picture counts by itself

// Resolves to {states, predictions, timesteps}: x_t and x̂_0 after each call that the query traces, of one image after the other,
// and the timesteps of the next calls, of which the last is -1.
async function answerTo(path, query, picture) {
  const body = picture && new FormData();
  body?.append("image", picture, "picture.png");
  const response = await request(`${path}?${query}`, { method: "POST", headers: { Accept: "application/x-npz" }, body });
  if (response.status !== 200) throw new Error(t("learnBusy"));
  const arrays = readNpz(await response.arrayBuffer());
  request(`/jobs/${response.headers.get("X-Job-Id")}/images`, { method: "DELETE", keepalive: true }).catch(() => {}); // they expire anyway
  const split = ({ shape: [images, moments], data }) => {
    const size = data.length / images / moments;
    return Array.from({ length: images * moments }, (_, part) => data.subarray(part * size, (part + 1) * size));
  };
  return { states: split(arrays.get("x_t")), predictions: split(arrays.get("x_0")), timesteps: [...arrays.get("timesteps").data] };
}

function once(path, query, picture) {
  const key = `${path}?${query}`;
  const known = asked.get(key);
  if (known && known.picture === picture) return known.answer;
  const answer = answerTo(path, query, picture);
  answer.catch(() => asked.delete(key));
  asked.set(key, { picture, answer });
  return answer;
}

const queryOf = (model, rest) => new URLSearchParams([...Object.entries({ model, tag: UNLISTED, ...leastOf(model), ...rest })].flatMap(([name, value]) => [value].flat().map(each => [name, each])));

// Runs DDIM from x_t of a scene's picture on; the server noises it with the noise of the seed.
export function runFrom({ model, picture, seed, timestep }, steps) {
  const strength = (timestep + 1) / models.get(model).num_train_timesteps;
  return once("/denoise", queryOf(model, { seed, steps, strength, ...SAMPLERS.ddim, spacing: "linspace", trace: "all" }), picture);
}

export const draw = (model, settings) => once("/generate", queryOf(model, settings));

export async function drawn(model) {
  const query = new URLSearchParams({ model, ...leastOf(model) });
  const response = await request(`/generate?${query}`, { method: "POST", headers: { Accept: "image/png" } });
  if (response.status !== 200) throw new Error(t("learnBusy"));
  return response.blob();
}

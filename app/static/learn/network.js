// What the network sees in a noised picture: runs of the server that begin there, with all that they pass through.

import { request } from "../api.js";
import { leastOf, models } from "../models.js";
import { readNpz } from "../npz.js";
import { UNLISTED } from "../store.js";
import { t } from "../texts.js";

const SAMPLERS = { ddim: { eta: 0 }, ddpm: { variance: "fixed_small" } };

// Resolves to {states, predictions, timesteps} of a run from x_t: x_t after each call, the x̂_0 of each call, and the
// timesteps after each call, of which the last is -1. The server noises the picture, a PNG, with the noise of the seed.
export async function run(model, picture, { timestep, seed, steps = 1, sampler = "ddim" }) {
  const { num_train_timesteps: total } = models.get(model);
  const query = new URLSearchParams({
    ...{ model, seed, steps, sampler, ...SAMPLERS[sampler], spacing: "linspace", trace: "all", tag: UNLISTED },
    strength: (timestep + 1) / total,
    ...leastOf(model),
  });
  const body = new FormData();
  body.append("image", picture, "picture.png");
  const response = await request(`/denoise?${query}`, { method: "POST", headers: { Accept: "application/x-npz" }, body });
  if (response.status !== 200) throw new Error(t("learnBusy"));
  const arrays = readNpz(await response.arrayBuffer());
  request(`/jobs/${response.headers.get("X-Job-Id")}/images`, { method: "DELETE", keepalive: true }).catch(() => {}); // they expire anyway
  const split = ({ shape: [, moments], data }) => {
    const size = data.length / moments;
    return Array.from({ length: moments }, (_, moment) => data.subarray(moment * size, (moment + 1) * size));
  };
  return { states: split(arrays.get("x_t")), predictions: split(arrays.get("x_0")), timesteps: [...arrays.get("timesteps").data] };
}

// Resolves to a picture that the model draws, as a PNG; it stays in the gallery.
export async function drawn(model) {
  const query = new URLSearchParams({ model, ...leastOf(model) });
  const response = await request(`/generate?${query}`, { method: "POST", headers: { Accept: "image/png" } });
  if (response.status !== 200) throw new Error(t("learnBusy"));
  return response.blob();
}

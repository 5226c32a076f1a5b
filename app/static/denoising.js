// A look through the denoising of a picture: x_t and the prediction x̂_0 at the moments that its job kept.

import { request } from "./api.js";
import { el, multiple } from "./dom.js";
import { readNpz } from "./npz.js";
import { paint } from "./pixels.js";
import { playheadOf } from "./playhead.js";
import { number, t } from "./texts.js";

const WIDE = 256; // CSS pixels, about

// Resolves to the tool; `index` is the picture of the job.
export async function denoisingOf(job, index) {
  const response = await request(job.links.image, { headers: { Accept: "application/x-npz" } });
  const arrays = readNpz(await response.arrayBuffer());
  const timesteps = arrays.get("timesteps").data;
  const captions = { x_t: t("noisyState"), x_0: t("prediction") };
  const views = Object.entries(captions).map(([name, caption]) => ({ ...viewOf(arrays.get(name), index), caption }));
  return playheadOf(views, timesteps.length, moment => {
    const time = timesteps[moment] < 0 ? t("finished") : t("atTimestep", number(timesteps[moment], timesteps[moment] % 1 ? 1 : 0));
    return t("momentOf", job.trace[moment], job.params.steps, time);
  });
}

// Returns a canvas and how to draw a moment of an array of shape (M, K, H, W, C) in [-1, 1] on it.
function viewOf({ shape, data }, index) {
  const [, moments, height, width, channels] = shape;
  const canvas = el("canvas", { width, height });
  canvas.style.width = `${multiple(width, WIDE)}px`;
  const context = canvas.getContext("2d");
  const draw = moment => paint(context, data, channels, (index * moments + moment) * height * width * channels);
  return { canvas, draw };
}

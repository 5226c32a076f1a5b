// What an open picture shows under a playhead: its film, and how to save it; or x_t and the prediction x̂_0 at the moments that its
// job kept.

import { request } from "./api.js";
import { fileName } from "./describe.js";
import { el, multiple, save } from "./dom.js";
import { filmOf, hasFilm } from "./film.js";
import { drawnBy, sizeOf } from "./models.js";
import { notify } from "./notice.js";
import { readNpz } from "./npz.js";
import { paint } from "./pixels.js";
import { playheadOf } from "./playhead.js";
import { number, t } from "./texts.js";

const WIDE = 256; // CSS pixels, about

export async function filmToolOf(job, index) {
  const film = hasFilm(job) && (await filmOf(job, index));
  if (!film) return undefined;
  const picture = await createImageBitmap(await (await request(job.links.images[index])).blob());
  const canvas = el("canvas", { width: picture.width, height: picture.height });
  canvas.style.width = `${(multiple(sizeOf(drawnBy(job)), WIDE) / sizeOf(drawnBy(job))) * picture.width}px`;
  const context = canvas.getContext("2d");
  const draw = moment => (moment === film.count ? context.drawImage(picture, 0, 0) : film.draw(context, moment));
  const button = el("button", { type: "button", className: "small", textContent: t("saveFilm") });
  button.addEventListener("click", async () => {
    try {
      const response = await request(`${job.links.images[index]}/film`, { headers: { Accept: "image/gif" } });
      save(await response.blob(), fileName(job, index).replace(/png$/, "gif"));
    } catch (error) {
      notify(error.message, { error: true });
    }
  });
  const words = moment => (moment === film.count ? t("finished") : moment < film.noises ? t("noiseAlone") : `${moment + 1 - film.noises} / ${film.count - film.noises}`);
  return playheadOf([{ canvas, draw, caption: t("prediction") }], film.count + 1, words, button);
}

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

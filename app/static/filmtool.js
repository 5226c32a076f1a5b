// The film of an open picture under a playhead, and how to save it.

import { request } from "./api.js";
import { fileName } from "./describe.js";
import { el, multiple, save } from "./dom.js";
import { filmOf, hasFilm } from "./film.js";
import { drawnBy, sizeOf } from "./models.js";
import { notify } from "./notice.js";
import { playheadOf } from "./playhead.js";
import { t } from "./texts.js";

const WIDE = 256; // CSS pixels, about

// Resolves to the tool; undefined if the picture has no film.
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

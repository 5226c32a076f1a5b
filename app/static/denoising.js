// A look through the denoising of a picture: x_t and the prediction x̂_0 at the moments that its job kept.

import { request } from "./api.js";
import { el, multiple } from "./dom.js";
import { readNpz } from "./npz.js";
import { number, t } from "./texts.js";

const FRAME = 180; // milliseconds
const WIDE = 256; // CSS pixels, about

// Resolves to the tool; `index` is the picture of the job.
export async function denoisingOf(job, index) {
  const response = await request(job.links.image, { headers: { Accept: "application/x-npz" } });
  const arrays = readNpz(await response.arrayBuffer());
  const timesteps = arrays.get("timesteps").data;
  const views = ["x_t", "x_0"].map(name => viewOf(arrays.get(name), index));
  const words = el("output");
  const slider = el("input", { type: "range", min: 0, max: timesteps.length - 1, step: 1, "aria-label": t("moments") });
  slider.value = timesteps.length - 1;
  const show = () => {
    const moment = slider.valueAsNumber;
    for (const { draw } of views) draw(moment);
    const time = timesteps[moment] < 0 ? t("finished") : t("atTimestep", number(timesteps[moment], timesteps[moment] % 1 ? 1 : 0));
    words.textContent = t("momentOf", job.trace[moment], job.params.steps, time);
    slider.setAttribute("aria-valuetext", words.textContent);
  };
  slider.addEventListener("input", show);
  show();
  const [state, prediction] = views.map(({ canvas }, each) =>
    el("figure", {}, canvas, el("figcaption", { textContent: t(each ? "prediction" : "noisyState") })));
  return el("div", { className: "denoising" }, el("div", { className: "both" }, state, prediction), slider,
    el("div", { className: "row" }, playOf(slider, show), words));
}

// Plays the moments once, from the first to the last.
function playOf(slider, show) {
  const button = el("button", { type: "button", className: "small play", textContent: t("play") });
  let timer;
  const stop = () => {
    clearInterval(timer);
    timer = undefined;
    button.textContent = t("play");
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    button.textContent = t("pause");
    timer = setInterval(() => {
      if (!slider.isConnected || slider.value === slider.max) return stop();
      slider.stepUp();
      show();
    }, FRAME);
  });
  return button;
}

// Returns a canvas and how to draw a moment of an array of shape (M, K, H, W, C) in [-1, 1] on it.
function viewOf({ shape, data }, index) {
  const [, moments, height, width, channels] = shape;
  const canvas = el("canvas", { width, height });
  canvas.style.width = `${multiple(width, WIDE)}px`;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const draw = moment => {
    let from = (index * moments + moment) * height * width * channels;
    for (let pixel = 0; pixel < height * width; pixel++, from += channels) {
      for (let channel = 0; channel < 3; channel++) {
        pixels.data[4 * pixel + channel] = (data[from + (channels === 1 ? 0 : channel)] + 1) * 127.5; // clamped and rounded
      }
      pixels.data[4 * pixel + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  };
  return { canvas, draw };
}

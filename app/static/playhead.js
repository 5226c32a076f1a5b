// Moments of a run under one playhead: what is seen at each, all of them as strips, and a slider to move through them.

import { el } from "./dom.js";
import { t } from "./texts.js";

const FRAME = 180; // milliseconds
const STRIP = 16; // moments of a strip, at most

// Returns the tool. A view is {canvas, draw, caption}: `draw` shows a moment on the canvas. `wordsOf` says what moment it is.
export function playheadOf(views, count, wordsOf, ...tools) {
  const words = el("output");
  const slider = el("input", { type: "range", min: 0, max: count - 1, step: 1, "aria-label": t("moments") });
  const strips = el("div", { className: "strips", "aria-hidden": "true" }, ...views.map(view => stripOf(view, count)), el("span", { className: "playhead" }));
  slider.value = count - 1;
  const show = () => {
    const moment = slider.valueAsNumber;
    for (const { draw } of views) draw(moment);
    words.textContent = wordsOf(moment);
    slider.setAttribute("aria-valuetext", words.textContent);
    strips.style.setProperty("--at", `${((moment + 0.5) / count) * 100}%`);
  };
  slider.addEventListener("input", show);
  const point = event => {
    if (event.type === "pointermove" && !event.buttons) return;
    const { left, width } = strips.getBoundingClientRect();
    slider.value = Math.floor(((event.clientX - left) / width) * count);
    show();
  };
  for (const event of ["pointerdown", "pointermove"]) strips.addEventListener(event, point);
  show();
  const figures = views.map(({ canvas, caption }) => el("figure", {}, canvas, caption && el("figcaption", { textContent: caption })));
  return el("div", { className: "denoising" }, el("div", { className: "both" }, ...figures), strips, slider,
    el("div", { className: "row" }, playOf(slider, show), words, ...tools));
}

// Returns a canvas with the moments of a view side by side; of many it shows some.
function stripOf({ canvas, draw }, count) {
  const shown = Math.min(count, STRIP);
  const strip = el("canvas", { width: shown * canvas.width, height: canvas.height });
  const context = strip.getContext("2d");
  for (let each = 0; each < shown; each++) {
    draw(Math.round((each * (count - 1)) / Math.max(1, shown - 1)));
    context.drawImage(canvas, each * canvas.width, 0);
  }
  return strip;
}

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

// What the screens of the lesson are made of.

import { request } from "../api.js";
import { attempt, complain, el } from "../dom.js";
import { leastOf, models } from "../models.js";
import { drawingOf, legendOf, ticksOf } from "../plot.js";
import { UNLISTED } from "../store.js";
import { t } from "../texts.js";
import { readNpz } from "../unzip.js";

// Returns a slider over `count` places with words for each, as an element. `show` hears where it is, also at the beginning.
export function sliderOf(label, count, at, wordsOf, show) {
  const slider = el("input", { type: "range", min: 0, max: count - 1, step: 1, value: at });
  const value = el("output");
  const move = () => {
    value.textContent = wordsOf(slider.valueAsNumber);
    slider.setAttribute("aria-valuetext", value.textContent);
    show(slider.valueAsNumber);
  };
  slider.addEventListener("input", move);
  queueMicrotask(move); // when the whole screen is made
  return el("label", { className: "move" }, el("span", { className: "row" }, el("span", { textContent: label }), value), slider);
}

// Returns {element, ask}: `ask(question, show)` shows an answer; figures are pale until then. Only the newest question is asked.
export function asking(...figures) {
  const element = el("p", { className: "error", role: "alert", hidden: true });
  const late = isLate => figures.forEach(each => each.element.classList.toggle("late", isLate));
  let newest; // what shows the answer to the newest question
  let before = Promise.resolve(); // once all earlier questions are answered
  const ask = (question, show) => {
    newest = show;
    late(true);
    before = before.then(async () => {
      if (show !== newest) return;
      await attempt(error => complain(element, error), async () => show(await question()));
      if (show === newest) late(false);
    });
  };
  return { element, ask };
}

export const rowOf = (...elements) => el("div", { className: "equation" }, ...elements.map(each => (typeof each === "string" ? el("span", { className: "sign", textContent: each, "aria-hidden": "true" }) : each.element)));
export const formulaOf = () => el("p", { className: "formula" });

// Returns {element, show}: `show` marks the timestep of a state and those that were visited before it.
export function curveOf(alphas) {
  const last = alphas.length - 1;
  const shares = [alphas.map(Math.sqrt), alphas.map(alpha => Math.sqrt(1 - alpha))];
  const marks = el("div", { className: "marks", "aria-hidden": "true" });
  const plot = el("div", { className: "plot" }, drawingOf(shares.map(each => [...each.entries()]), last), marks, ...ticksOf({ most: 1, none: 0, least: 0, longest: last }));
  const legend = el("p", { className: "legend hint" }, ...legendOf(t("learnSignal"), t("learnNoise")));
  const markAt = (timestep, className = "mark") => {
    const mark = el("span", { className });
    mark.style.left = `${(timestep / last) * 100}%`;
    mark.style.top = `${(1 - Math.sqrt(alphas[timestep])) * 100}%`;
    return mark;
  };
  const show = (here, visited = []) => marks.replaceChildren(...visited.map(each => markAt(each)), here < 0 ? "" : markAt(here, "mark here"));
  return { element: el("div", { className: "curve" }, plot, legend), show };
}

export const SAMPLERS = { ddim: { sampler: "ddim", eta: 0 }, ddpm: { sampler: "ddpm", variance: "fixed_small" } };
const asked = new Map(); // a promise of each answer, by what was asked; a picture counts by itself

// Resolves to {states, predictions, timesteps}: x_t and x̂_0 after each call, and the timesteps of the next calls, at last -1.
async function answerTo(path, query, picture) {
  const body = picture && new FormData();
  body?.append("image", picture, "picture.png");
  const response = await request(`${path}?${query}`, { method: "POST", headers: { Accept: "application/x-npz" }, body });
  if (response.status !== 200) throw new Error(t("learnBusy"));
  const arrays = await readNpz(await response.blob());
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

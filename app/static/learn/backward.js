// The second half of the lesson: from the noised picture back, one step of the chain at a time.

import { complain, el } from "../dom.js";
import { t } from "../texts.js";
import { curveOf } from "./curve.js";
import { run } from "./network.js";
import { digits } from "./scene.js";

const COUNTS = [4, 8, 16, 32]; // steps
const PAUSE = 500; // milliseconds between steps that go by themselves

const UPDATES = {
  // Equation 12 of DDIM without noise.
  ddim: (from, to) => `x ← ${digits(Math.sqrt(to))} · x̂₀ + ${digits(Math.sqrt(1 - to))} · ε̂`,
  // The update of the paper's Fig. 6 as it should be, for a step from ᾱ to ᾱ'.
  ddpm: (from, to) => {
    const alpha = from / to;
    const sigma = Math.sqrt(((1 - alpha) * (1 - to)) / (1 - from));
    return `x ← ${digits(1 / Math.sqrt(alpha))} · (x − ${digits((1 - alpha) / Math.sqrt(1 - from))} · ε̂) + ${digits(sigma)} · z`;
  },
};

const choice = (values, chosen) => el("select", {}, ...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
const labelled = (text, control) => el("label", {}, el("span", { textContent: text }), control);

// Returns {element, reset}: `reset` goes back to the beginning, where the scene is now.
export function backwardOf(scene) {
  const state = scene.figure("state", t("learnState"));
  const guess = scene.figure("prediction", t("learnGuess"));
  const curve = curveOf(scene.alphas);
  const count = choice(COUNTS.map(each => [each, each]), 8);
  const sampler = choice([["ddim", t("learnDdim")], ["ddpm", t("learnDdpm")]], "ddim");
  const words = el("output", { role: "status" });
  const formula = el("p", { className: "formula" });
  const strip = el("ol", { className: "path", tabIndex: 0, "aria-label": t("learnPath") });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const button = (key, action) => el("button", { type: "button", textContent: t(key), onclick: action });
  let passed; // a promise of what the run passes through
  let at; // the number of steps that were made
  let timer;

  async function step() {
    one.disabled = true; // a second press on the way would ask twice
    const steps = Math.min(count.value, scene.timestep + 1);
    const asked = (passed ??= run(scene.model, scene.picture, { ...scene, steps, sampler: sampler.value }));
    try {
      const { states, predictions, timesteps } = await asked;
      if (asked !== passed) return;
      complain(alarm, null);
      const visited = [scene.timestep, ...timesteps].map(Math.round);
      at++;
      show(states[at - 1], predictions[at - 1], visited, states.length);
    } catch (error) {
      if (asked !== passed) return;
      reset();
      complain(alarm, error);
    }
  }

  function show(x, x0, visited, steps) {
    const [from, to] = [scene.alphaAt(visited[at - 1]), scene.alphaAt(visited[at])];
    state.paint(x);
    guess.paint(x0);
    curve.show(visited[at], visited.slice(0, at));
    const time = visited[at] < 0 ? t("finished") : `t = ${visited[at]}`;
    words.textContent = t("learnStep", at, steps, time);
    formula.textContent = from ? UPDATES[sampler.value](from, to) : "";
    const small = [state, guess].map(({ canvas }) => {
      const copy = el("canvas", { width: canvas.width, height: canvas.height });
      copy.getContext("2d").drawImage(canvas, 0, 0);
      return copy;
    });
    strip.append(el("li", {}, ...small, el("span", { textContent: time })));
    strip.scrollLeft = strip.scrollWidth;
    one.disabled = all.disabled = at === steps;
    if (at === steps) stop();
  }

  function reset() {
    stop();
    passed = undefined;
    at = 0;
    state.paint(scene.noised);
    guess.clear();
    curve.show(scene.timestep);
    words.textContent = t("learnAtStart", scene.timestep);
    formula.textContent = "";
    strip.replaceChildren();
    complain(alarm, null);
    one.disabled = all.disabled = false;
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
  }

  function goOn() {
    step();
    timer ??= setInterval(() => (strip.checkVisibility() ? one.disabled || step() : stop()), PAUSE);
  }

  const one = button("learnOne", step);
  const all = button("learnAll", goOn);
  one.className = "main";
  count.addEventListener("change", reset);
  sampler.addEventListener("change", reset);
  const controls = el("div", { className: "controls" }, labelled(t("steps"), count), labelled(t("sampler"), sampler), one, all, button("learnAgain", reset));
  const views = el("div", { className: "equation" }, state.element, guess.element, curve.element);
  const element = el("article", { className: "backward" }, el("h3", { textContent: t("learnBackward") }), el("p", { textContent: t("learnBackwardText") }), controls,
    views, el("div", { className: "row" }, words, formula), alarm, strip, el("p", { className: "hint", textContent: t("learnBackwardErrata") }));
  return { element, reset };
}

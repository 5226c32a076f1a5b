// The first half of the lesson: noise is added to a picture by a slider, and the network looks at it once.

import { complain, el } from "../dom.js";
import { t } from "../texts.js";
import { curveOf } from "./curve.js";
import { run } from "./network.js";
import { digits } from "./scene.js";

const RATIOS = [10, 1, 0.01]; // signal to noise, below which there are other words

// Returns a function that runs an action, and once more if it was called meanwhile: only the newest question matters.
function newest(action) {
  let isRunning = false;
  let isAsked = false;
  return async () => {
    isAsked = true;
    if (isRunning) return;
    isRunning = true;
    while (isAsked) {
      isAsked = false;
      await action();
    }
    isRunning = false;
  };
}

// Returns {element, update}. `move` hears that the slider has changed the timestep.
export function forwardOf(scene, move) {
  const picture = scene.figure("x0", t("learnPictureIs"));
  const noise = scene.figure("noise", t("learnNoiseIs"));
  const state = scene.figure("xt", t("learnState"));
  const guess = scene.figure("guess", t("learnGuess"));
  const formula = el("p", { className: "formula" });
  const words = el("p", { role: "status" });
  const distance = el("p", { className: "hint distance" });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const slider = el("input", { type: "range", min: 0, max: scene.alphas.length - 1, step: 1, value: scene.timestep, "aria-label": t("timestep") });
  const value = el("output");
  const choose = timestep => {
    scene.timestep = timestep;
    update();
    move();
  };
  const curve = curveOf(scene.alphas, choose);
  slider.addEventListener("input", () => choose(slider.valueAsNumber));

  const look = newest(async () => {
    const { picture: sent, seed, timestep } = scene;
    try {
      const { predictions: [x0] } = await run(scene.model, sent, scene);
      if (sent !== scene.picture || seed !== scene.seed) return;
      guess.paint(x0);
      complain(alarm, null);
      if (timestep !== scene.timestep) return;
      guess.element.classList.remove("late");
      const mean = x0.reduce((sum, each, index) => sum + (each - scene.x0[index]) ** 2, 0) / x0.length;
      distance.textContent = t("learnDistance", digits(Math.sqrt(mean) * 127.5));
    } catch (error) {
      complain(alarm, error);
    }
  });

  function update() {
    const [ofPicture, ofNoise] = scene.shares;
    const ratio = (ofPicture / ofNoise) ** 2;
    picture.paint(scene.x0);
    noise.paint(scene.noise);
    state.paint(scene.noised);
    slider.value = scene.timestep;
    value.textContent = `t = ${scene.timestep}`;
    slider.setAttribute("aria-valuetext", value.textContent);
    formula.textContent = `xₜ = ${digits(ofPicture)} · x₀ + ${digits(ofNoise)} · ε`;
    words.textContent = `${t("learnRatio", digits(ratio))} ${t(`learn_left_${RATIOS.filter(each => ratio < each).length}`)}`;
    curve.show(scene.timestep);
    guess.element.classList.add("late");
    look();
  }

  const sign = text => el("span", { className: "sign", textContent: text, "aria-hidden": "true" });
  const equation = el("div", { className: "equation" }, picture.element, sign("+"), noise.element, sign("="), state.element, sign("→"), guess.element);
  const element = el("article", { className: "forward" }, el("h3", { textContent: t("learnForward") }), el("p", { textContent: t("learnForwardText") }), equation,
    el("div", { className: "row" }, value, formula), slider, curve.element, words, distance, alarm, el("p", { className: "hint", textContent: t("learnForwardErrata") }));
  return { element, update };
}

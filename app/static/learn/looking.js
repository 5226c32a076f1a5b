// The screens on which t moves: noise is added to a picture, the network looks at it once, and two schedules add it.

import { el } from "../dom.js";
import { models } from "../models.js";
import { t } from "../texts.js";
import { curveOf } from "./curve.js";
import { runFrom } from "./network.js";
import { asking, formulaOf, rowOf, sliderOf } from "./parts.js";
import { digits } from "./scene.js";

const RATIOS = [10, 1, 0.01]; // signal to noise, below which there are other words
const OF_PAPER = [1e-4, 0.02]; // β at the ends of the linear schedule
const COSINE = 0.008; // s of Nichol and Dhariwal 2021, equation 17
const ALIKE = 0.02;

function timestepOf(scene, show) {
  return sliderOf(t("timestep"), scene.alphas.length, scene.timestep, timestep => `t = ${timestep}`, timestep => {
    scene.timestep = timestep;
    show();
  });
}

export function noise(scene) {
  const [picture, drawn, state] = [["x0", "learnPictureIs"], ["noise", "learnNoiseIs"], ["xt", "learnState"]].map(([name, key]) => scene.figure(name, t(key)));
  const formula = formulaOf();
  const words = el("p", { role: "status" });
  const slider = timestepOf(scene, () => {
    const [ofPicture, ofNoise] = scene.shares;
    const ratio = (ofPicture / ofNoise) ** 2;
    picture.paint(scene.x0);
    drawn.paint(scene.noise);
    state.paint(scene.noised);
    formula.textContent = `xₜ = ${digits(ofPicture)} · x₀ + ${digits(ofNoise)} · ε`;
    words.textContent = `${t("learnRatio", digits(ratio))} ${t(`learn_left_${RATIOS.filter(each => ratio < each).length}`)}`;
  });
  return [rowOf(picture, "+", drawn, "=", state), slider, formula, words];
}

export function prediction(scene) {
  const [state, guess, picture] = [["xt", "learnState"], ["guess", "learnGuess"], ["x0", "learnPictureIs"]].map(([name, key]) => scene.figure(name, t(key)));
  const { element: alarm, ask } = asking(guess);
  const words = el("p", { role: "status" });
  const slider = timestepOf(scene, () => {
    picture.paint(scene.x0);
    state.paint(scene.noised);
    ask(() => runFrom(scene, 1), ({ predictions: [x0] }) => {
      guess.paint(x0);
      const mean = x0.reduce((sum, each, index) => sum + (each - scene.x0[index]) ** 2, 0) / x0.length;
      words.textContent = t("learnDistance", digits(Math.sqrt(mean) * 127.5));
    });
  });
  return [rowOf(state, "→", guess, picture), slider, words, alarm];
}

// ᾱ of the paper's linear schedule, and of the cosine schedule.
function linear(count) {
  let alpha = 1;
  return Array.from({ length: count }, (_, timestep) => (alpha *= 1 - (OF_PAPER[0] + (OF_PAPER[1] - OF_PAPER[0]) * (timestep / (count - 1)))));
}

function cosine(count) {
  const level = share => Math.cos(((share + COSINE) / (1 + COSINE)) * (Math.PI / 2)) ** 2;
  return Array.from({ length: count }, (_, timestep) => level((timestep + 1) / count) / level(0));
}

export function schedule(scene) {
  const { alphas, model } = scene;
  const paper = linear(alphas.length);
  const isLinear = alphas.every((alpha, timestep) => Math.abs(alpha - paper[timestep]) < ALIKE);
  const other = isLinear ? cosine(models.get(model).num_train_timesteps) : paper;
  const sides = [[alphas, "xt", t("learnOwn", model)], [other, "other", t(isLinear ? "learnCosine" : "learnLinear")]].map(([own, name, words]) => ({ own, figure: scene.figure(name, words), curve: curveOf(own) }));
  const slider = timestepOf(scene, () => {
    for (const { own, figure, curve } of sides) {
      figure.paint(scene.noisedBy(own));
      curve.show(scene.timestep);
    }
  });
  return [el("div", { className: "sides" }, ...sides.map(({ figure, curve }) => el("div", {}, figure.element, curve.element))), slider];
}

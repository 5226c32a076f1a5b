// The screens of the lesson, on each of which one thing moves: t, a run, or what is asked for.

import { el } from "../dom.js";
import { models } from "../models.js";
import { duration, t, word } from "../texts.js";
import { asking, curveOf, draw, formulaOf, rowOf, runFrom, SAMPLERS, sliderOf } from "./parts.js";
import { digits, modelThat, Scene, sharesOf } from "./scene.js";

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
    const [ofPicture, ofNoise] = sharesOf(scene.alphas[scene.timestep]);
    const ratio = (ofPicture / ofNoise) ** 2;
    picture.paint(scene.x0);
    drawn.paint(scene.noise);
    state.paint(scene.noised());
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
    state.paint(scene.noised());
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
      figure.paint(scene.noised(own));
      curve.show(scene.timestep);
    }
  });
  return [el("div", { className: "sides" }, ...sides.map(({ figure, curve }) => el("div", {}, figure.element, curve.element))), slider];
}

const STEPS = 8;
const LONGER = 20;
const placeOf = (step, steps) => (step === steps ? t("finished") : t("learnStep", step, steps));

// Equation 12 of DDIM without noise, for a step to ᾱ; after the last call, at timestep -1, no noise is left.
const updateOf = (alpha = 1) => `x ← ${digits(Math.sqrt(alpha))} · x̂₀ + ${digits(Math.sqrt(1 - alpha))} · ε̂`;

export function step(scene) {
  const [state, guess] = [["state", "learnState"], ["prediction", "learnGuess"]].map(([name, key]) => scene.figure(name, t(key)));
  const curve = curveOf(scene.alphas);
  const formula = formulaOf();
  const { element: alarm, ask } = asking(state, guess);
  const steps = Math.min(STEPS, scene.timestep + 1);
  const slider = sliderOf(t("learnMade"), steps + 1, 0, at => placeOf(at, steps), at => ask(() => runFrom(scene, steps), ({ states, predictions, timesteps }) => {
    const visited = [scene.timestep, ...timesteps].map(Math.round);
    state.paint(states[at - 1] ?? scene.noised());
    guess.paint(predictions[Math.min(at, steps - 1)]); // what the next call predicts
    curve.show(visited[at], visited.slice(0, at));
    formula.textContent = at ? updateOf(scene.alphas[visited[at]]) : "";
  }));
  return [rowOf(state, guess, curve), slider, formula, alarm];
}

export function sampler(scene) {
  const { model, seed } = scene;
  const sides = Object.entries(SAMPLERS).map(([name, settings]) => ({ settings, figures: [scene.figure(name, t(`learn_${name}_state`)), scene.figure(`${name}-x0`, t("learnGuess"))] }));
  const { element: alarm, ask } = asking(...sides.flatMap(({ figures }) => figures));
  const runs = () => Promise.all(sides.map(({ settings }) => draw(model, { seed, n: 1, steps: LONGER, ...settings, spacing: "linspace", trace: "all" })));
  const slider = sliderOf(t("learnMade"), LONGER + 1, 0, at => placeOf(at, LONGER), at => ask(runs, found => sides.forEach(({ figures: [state, guess] }, side) => {
    const { states, predictions } = found[side];
    state.paint(states[at - 1] ?? scene.noise);
    guess.paint(predictions[Math.min(at, LONGER - 1)]);
  })));
  return [el("div", { className: "sides" }, ...sides.map(({ figures }) => rowOf(...figures))), slider, alarm];
}

const COUNT = 4; // pictures
const SCALES = [1, 1.5, 2, 3, 5, 8];
const CALLS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

// The choices of a model, its classes among them, as pairs of a name and what the server says of it.
const choicesOf = model => Object.entries(models.get(model).conditions ?? {}).filter(([, { type }]) => type === "choice");
const canGuide = model => models.get(model).weaker || choicesOf(model).some(([, each]) => each.null);
const asQuery = (name, value) => (name === "label" ? { label: value } : { condition: `${name}:${value}` });
const modelFor = ({ model }, can) => (can(model) ? model : modelThat(can));

function fewOf(model) {
  const [plan] = Object.entries(models.get(model).plans).toSorted(([, a], [, b]) => a.steps - b.steps);
  return plan ? { plan: plan[0] } : { steps: Math.min(16, models.get(model).defaults.steps) };
}

// Draws the same seeds for each place of a slider; `settingsOf` has the settings of one.
function drawing({ seed }, model, label, values, at, wordsOf, settingsOf) {
  const figures = Array.from({ length: COUNT }, (_, index) => new Scene(model).figure(`drawn-${index}`, `${t("seed")} ${seed + index}`));
  const { element: alarm, ask } = asking(...figures);
  const slider = sliderOf(label, values.length, at, index => wordsOf(values[index]), index =>
    ask(() => draw(model, { seed, n: COUNT, trace: "last", ...settingsOf(values[index]) }), ({ states }) => figures.forEach((figure, each) => figure.paint(states[each]))));
  return [el("div", { className: "equation" }, ...figures.map(each => each.element)), slider, el("p", { className: "hint", textContent: t("learnDrawnBy", model) }), alarm];
}

const nobody = () => [el("p", { className: "error", textContent: t("learnNoModel") })];

export function guidance(scene) {
  const model = modelFor(scene, canGuide);
  if (!model) return nobody();
  const [name, { values }] = choicesOf(model).find(([, each]) => each.null) ?? choicesOf(model)[0] ?? ["", { values: [] }];
  const asked = values.length ? asQuery(name, values[0]) : {};
  return drawing(scene, model, t("guidance_scale"), SCALES, 0, scale => `w = ${scale}`, scale => ({ ...asked, guidance_scale: scale, ...fewOf(model) }));
}

export function conditions(scene) {
  const model = modelFor(scene, each => choicesOf(each).length);
  if (!model) return nobody();
  const [name, { values }] = choicesOf(model).find(([, each]) => each.values.length > 8) ?? choicesOf(model)[0];
  return drawing(scene, model, name === "label" ? t("class") : word(model, name), values, 0, value => word(model, name, value), value => ({ ...asQuery(name, value), ...fewOf(model) }));
}

export function calls(scene) {
  const { model } = scene;
  const { rate } = models.get(model);
  const words = count => t("learnCalls", count, rate ? duration((COUNT * count) / rate) : "");
  return drawing(scene, model, t("steps"), CALLS, 0, words, steps => ({ steps, sampler: "ddim", eta: 0 }));
}

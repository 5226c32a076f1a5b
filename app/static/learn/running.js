// The screens on which a run moves: one chain back from x_t, and two samplers that begin with the same noise.

import { el } from "../dom.js";
import { t } from "../texts.js";
import { curveOf } from "./curve.js";
import { draw, runFrom, SAMPLERS } from "./network.js";
import { asking, formulaOf, rowOf, sliderOf } from "./parts.js";
import { digits } from "./scene.js";

const STEPS = 8;
const LONGER = 20;

const placeOf = (step, steps) => (step === steps ? t("finished") : t("learnStep", step, steps));

// Equation 12 of DDIM without noise, for a step from ᾱ to ᾱ'.
const updateOf = to => `x ← ${digits(Math.sqrt(to))} · x̂₀ + ${digits(Math.sqrt(1 - to))} · ε̂`;

export function step(scene) {
  const [state, guess] = [["state", "learnState"], ["prediction", "learnGuess"]].map(([name, key]) => scene.figure(name, t(key)));
  const curve = curveOf(scene.alphas);
  const formula = formulaOf();
  const { element: alarm, ask } = asking(state, guess);
  const steps = Math.min(STEPS, scene.timestep + 1);
  const slider = sliderOf(t("learnMade"), steps + 1, 0, at => placeOf(at, steps), at => ask(() => runFrom(scene, steps), ({ states, predictions, timesteps }) => {
    const visited = [scene.timestep, ...timesteps].map(Math.round);
    state.paint(states[at - 1] ?? scene.noised);
    guess.paint(predictions[Math.min(at, steps - 1)]); // what the next call predicts
    curve.show(visited[at], visited.slice(0, at));
    formula.textContent = at ? updateOf(scene.alphaAt(visited[at])) : "";
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

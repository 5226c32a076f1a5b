// What the screens of the lesson are made of.

import { complain, el, svg } from "../dom.js";
import { t } from "../texts.js";

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

// Returns {element, ask}: `ask(question, show)` shows the answer to a question in the figures, which are pale until it is there. Of
// the questions that come while one is on its way, only the newest is asked.
export function asking(...figures) {
  const element = el("p", { className: "error", role: "alert", hidden: true });
  let next;
  let isAsking = false;
  const late = isLate => figures.forEach(each => each.element.classList.toggle("late", isLate));
  const ask = async (question, show) => {
    next = [question, show];
    late(true);
    if (isAsking) return;
    isAsking = true;
    while (next) {
      const [asked, shown] = next;
      next = undefined;
      try {
        shown(await asked());
        complain(element, null);
      } catch (error) {
        complain(element, error);
      }
    }
    isAsking = false;
    late(false);
  };
  return { element, ask };
}

export const rowOf = (...elements) => el("div", { className: "equation" }, ...elements.map(each => (typeof each === "string" ? el("span", { className: "sign", textContent: each, "aria-hidden": "true" }) : each.element)));
export const formulaOf = () => el("p", { className: "formula" });

const line = (className, shares) =>
  svg("polyline", { class: className, points: shares.map((share, timestep) => `${timestep},${1 - share}`).join(" ") });

// Returns {element, show}: `show` marks the timestep of a state and those that were visited before it.
export function curveOf(alphas) {
  const last = alphas.length - 1;
  const lines = [line("of-picture", alphas.map(Math.sqrt)), line("of-noise", alphas.map(alpha => Math.sqrt(1 - alpha)))];
  const plot = svg("svg", { viewBox: `0 0 ${last} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
  const marks = el("div", { className: "marks", "aria-hidden": "true" });
  const ticks = [["most", 1], ["none", 0], ["least", 0], ["longest", last]].map(([name, value]) => el("span", { className: `tick ${name}`, textContent: value }));
  const legend = el("p", { className: "legend hint" }, el("span", { className: "of-picture", textContent: t("learnSignal") }),
    el("span", { className: "of-noise", textContent: t("learnNoise") }), el("span", { textContent: `t = 0 … ${last}` }));
  const markAt = (timestep, className) => {
    const mark = el("span", { className });
    mark.style.left = `${(timestep / last) * 100}%`;
    mark.style.top = `${(1 - Math.sqrt(alphas[timestep])) * 100}%`;
    return mark;
  };
  const show = (here, visited = []) => {
    const places = [...visited.map(timestep => [timestep, "mark"]), [here, "mark here"]];
    marks.replaceChildren(...places.filter(([timestep]) => timestep >= 0).map(place => markAt(...place)));
  };
  return { element: el("div", { className: "curve" }, el("div", { className: "plot" }, plot, marks, ...ticks), legend), show };
}

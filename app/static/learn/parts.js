// What the screens of the lesson are made of.

import { complain, el } from "../dom.js";

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

// A number, or the numbers of a vector, under sliders that redraw while they move.

import { el, takeAny } from "../dom.js";
import { number, t } from "../texts.js";
import { wordsFor } from "./changes.js";

const STEPS = 100; // of a slider
const USUAL = 2; // how far a vector's numbers are from 0, if none is further
const REST = 300; // milliseconds without a move, after which a value is meant

// Returns {element, take, stop}: `take` shows another value, and `stop` takes the last one as meant. `move` is called with each
// value on the way, and `choose` with one at which the slider rests, undefined where the reader leaves it out.
export function slidersOf(part, request, { move, choose }) {
  const isVector = part.type === "vector";
  const wanted = () => (isVector ? [...numbers] : numbers[0]);
  const settle = () => ((timer = clearTimeout(timer)), choose(wanted()));
  let [numbers, timer] = [];
  const sliders = Array.from({ length: isVector ? part.size : 1 }, (_, at) => {
    const [slider, output, name] = [el("input", { type: "range" }), el("output"), isVector ? `${part.words} ${number(at + 1)}` : part.words];
    const say = value => (output.textContent = wordsFor({ ...part, type: "number" }, value));
    slider.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(settle, REST);
      say((numbers[at] = slider.valueAsNumber));
      move(wanted());
    });
    return { slider, say, element: el("label", {}, el("span", { className: "row" }, el("span", { textContent: name }), output), slider) };
  });

  function take(value) {
    timer = clearTimeout(timer);
    numbers = isVector ? [...(value ?? Array(part.size).fill(0))] : [value ?? (part.low + part.high) / 2];
    const far = Math.max(USUAL, ...numbers.map(Math.abs));
    const [min, max] = isVector ? [-far, far] : [part.low, part.high];
    const isWhole = Number.isInteger(min) && Number.isInteger(max) && max - min >= 10;
    for (const [at, { slider, say }] of sliders.entries()) {
      Object.assign(slider, { min, max, step: part.step ?? (isWhole ? 1 : (max - min) / STEPS) });
      takeAny(slider);
      slider.value = numbers[at];
      say(value === undefined ? value : numbers[at]);
    }
  }

  take(part.value);
  const leave = part.free && el("button", { type: "button", className: "small", textContent: t("anyClass"), onclick: () => choose(undefined) });
  const element = el("fieldset", { className: "sliders" }, el("legend", { className: "unseen", textContent: part.words }), ...sliders.map(each => each.element), leave);
  return { element, take, stop: () => timer && settle() };
}

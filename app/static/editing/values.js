// The values of a part, to choose one: pictures of this very face, or numbers under sliders that redraw while they move.

import { addressOf } from "../describe.js";
import { el, takeAny } from "../dom.js";
import { drawNow } from "../making.js";
import { conditionsIn, neverWith } from "../models.js";
import { number, t, word } from "../texts.js";
import { sketchOf, withEach, wordsFor } from "./changes.js";

const MOST = 32; // pictures of one request; further ones are drawn when they come near

// Returns {element, take, stop}: `take` marks the present value, and `stop` cancels what is being drawn. `choose` is called with the
// value that is chosen and {source, words}, its picture if there is one, and `fail` with an error.
export function choicesOf(part, { query, ...request }, { choose, fail }) {
  const [controller, chosen] = [new AbortController(), Object.fromEntries(conditionsIn(query))];
  const tiles = [...part.values, ...(part.free ? [undefined] : [])].map(value => {
    const [words, others] = [wordsFor(part, value), neverWith(query.get("model"), part.name, value, chosen)];
    const title = others ? t("neverWith", words, others.map(other => word(part.model, ...other)).join(", ")) : words; // it can still be drawn
    const radio = el("input", { type: "radio", name: "edited", className: "unseen", "aria-label": title, checked: value === part.value });
    const picture = el("span", { className: "blank" });
    radio.addEventListener("change", () => choose(value, { source: picture.firstChild?.src, words: title }));
    return { value, radio, picture, element: el("label", { className: others ? "value never" : "value", title }, radio, picture, el("span", { textContent: words })) };
  });
  const element = el("fieldset", {}, el("legend", { className: "unseen", textContent: part.words }), el("div", { className: "values" }, ...tiles.map(each => each.element)));

  async function draw(some) {
    some.forEach(tile => (tile.isAsked = true));
    const values = some.map(({ value }) => value).filter(value => value !== undefined);
    try {
      const sketch = sketchOf({ ...request, query: withEach(query, part, values) });
      const job = await (await drawNow(sketch, "application/json", controller.signal)).json();
      some.forEach(({ picture }, at) => picture.replaceChildren(el("img", { src: addressOf(job, at), alt: "", draggable: false })));
    } catch (error) {
      if (!controller.signal.aborted) fail(error);
    }
  }

  const near = new IntersectionObserver(entries => {
    for (const { target } of entries.filter(({ isIntersecting }) => isIntersecting)) {
      const from = tiles.findIndex(({ element, isAsked }) => element === target && !isAsked);
      const next = tiles.slice(from, from + MOST).filter(({ isAsked }) => from >= 0 && !isAsked);
      Map.groupBy(next, ({ value }) => value === undefined).forEach(some => draw(some)); // a list of values has no word for what is left out
    }
  });
  for (const tile of tiles) near.observe(tile.element);
  const take = value => tiles.forEach(tile => (tile.radio.checked = tile.value === value));
  return { element, take, stop: () => (near.disconnect(), controller.abort()) };
}

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

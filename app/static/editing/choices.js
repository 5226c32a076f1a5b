// The values of a choice as pictures of this very face, to choose one.

import { addressOf } from "../describe.js";
import { el } from "../dom.js";
import { drawNow } from "../making.js";
import { t, word } from "../texts.js";
import { conditionsIn, neverWith } from "../values.js";
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

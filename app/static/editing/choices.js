// The values of a choice as pictures of this very face, to choose one.

import { addressOf } from "../describe.js";
import { el } from "../dom.js";
import { drawNow } from "../making.js";
import { sketchOf, withEach, wordsFor } from "./changes.js";

const MOST = 32; // pictures of one request; further ones are drawn when they come near

// Returns {element, take, stop}: `take` marks the present value, and `stop` cancels what is being drawn. `choose` is called with the
// value that is chosen and its picture, if there is one, and `fail` with an error.
export function choicesOf(part, { query, ...request }, { choose, fail }) {
  const controller = new AbortController();
  const tiles = [...part.values, ...(part.free ? [undefined] : [])].map(value => {
    const radio = el("input", { type: "radio", name: "edited", className: "unseen", checked: value === part.value });
    const picture = el("span", { className: "blank" });
    radio.addEventListener("change", () => choose(value, picture.firstChild?.src));
    return { value, radio, picture, element: el("label", { className: "value" }, radio, picture, el("span", { textContent: wordsFor(part, value) })) };
  });
  const element = el("fieldset", {}, el("legend", { className: "unseen", textContent: part.words }), el("div", { className: "values" }, ...tiles.map(each => each.element)));
  const asked = new Set();

  async function draw(some) {
    some.forEach(tile => asked.add(tile));
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
    const seen = new Set(entries.filter(({ isIntersecting }) => isIntersecting).map(({ target }) => target));
    for (const [from, tile] of tiles.entries()) {
      if (!seen.has(tile.element) || asked.has(tile)) continue;
      const next = Map.groupBy(tiles.slice(from, from + MOST).filter(each => !asked.has(each)), ({ value }) => value === undefined);
      next.forEach(some => draw(some)); // a list of values has no word for what is left out
    }
  });
  for (const tile of tiles) near.observe(tile.element);
  const take = value => tiles.forEach(tile => (tile.radio.checked = tile.value === value));
  return { element, take, stop: () => (near.disconnect(), controller.abort()) };
}

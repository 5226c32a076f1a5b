// How large the pictures of the gallery are: as the reader wants, and larger where the row of a job has room.

import { $, grainOf, multiple } from "./dom.js";

const KEY = "difuso-density";
const SIZES = [64, 96, 128, 192, 256]; // CSS pixels, about
const USUAL = matchMedia("(min-width: 100rem)").matches ? 3 : 2;
const LARGEST = 2; // times as large as wanted, at most
const [GAP, PADDING] = [12, 42]; // pixels between the pictures of a card, and at its sides
const slider = $("density");
let width = 0; // of a card

// Returns the size in which pictures are shown, so that `count` of them fill the row: a whole multiple of the longer side, or
// of a half or a quarter of it where that has pixels enough not to need it.
export function sizeFor(side, count) {
  width ||= $("jobs").clientWidth;
  const grain = grainOf(side);
  const wanted = multiple(grain, SIZES[slider.valueAsNumber]);
  const room = (width - PADDING + GAP) / count - GAP;
  const fitting = grain * Math.floor(Math.min(room, LARGEST * wanted) / grain);
  return Math.max(wanted, fitting);
}

// Calls a function whenever the pictures are to be shown in another size.
export function startDensity(changed) {
  slider.max = SIZES.length - 1;
  slider.value = localStorage.getItem(KEY) ?? USUAL;
  slider.addEventListener("change", () => {
    localStorage.setItem(KEY, slider.value);
    changed();
  });
  addEventListener("resize", () => (width = 0));
}

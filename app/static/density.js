// How large the pictures of the gallery are: as the reader wants, and larger where the row of a job has room. On the wall they stand
// side by side, as many as fit.

import { $, grainOf, multiple } from "./dom.js";

const [KEY, WALL] = ["difuso-density", "difuso-wall"];
const SIZES = [64, 96, 128, 192, 256]; // CSS pixels, about; half as many on the wall
const USUAL = matchMedia("(min-width: 100rem)").matches ? 3 : 2;
const LARGEST = 2; // times as large as wanted, at most
const [GAP, PADDING, SEAM] = [12, 42, 2]; // pixels between the pictures of a card, at its sides, and between pictures of the wall
export const ON_WALL = 4; // cells of a job, at most; the number of columns is a multiple of it, so that rows are filled
const [slider, list, button] = [$("density"), $("jobs"), $("wall")];
let width = 0; // of a card

export const isWall = () => button.ariaPressed === "true";

// Returns the size in which pictures are shown, so that `count` of them fill the row: a whole multiple of the longer side, or
// of a half or a quarter of it where that has pixels enough not to need it.
export function sizeFor(side, count) {
  width ||= list.clientWidth;
  const grain = grainOf(side);
  const wanted = multiple(grain, SIZES[slider.valueAsNumber]);
  const room = (width - PADDING + GAP) / count - GAP;
  const fitting = grain * Math.floor(Math.min(room, LARGEST * wanted) / grain);
  return Math.max(wanted, fitting);
}

function fit() {
  width = list.clientWidth;
  if (!width) return; // it is hidden
  const columns = ON_WALL * Math.max(1, Math.round((width + SEAM) / (SIZES[slider.valueAsNumber] / 2 + SEAM) / ON_WALL));
  list.style.setProperty("--columns", columns);
  list.style.setProperty("--cell", `${(width + SEAM) / columns - SEAM}px`);
}

function showWall(isOn) {
  button.ariaPressed = String(isOn);
  list.classList.toggle("wall", isOn);
}

export function startDensity(changed) {
  slider.max = SIZES.length - 1;
  slider.value = localStorage.getItem(KEY) ?? USUAL;
  showWall(localStorage.getItem(WALL) === "true");
  slider.addEventListener("change", () => {
    localStorage.setItem(KEY, slider.value);
    fit();
    changed();
  });
  button.addEventListener("click", () => {
    showWall(!isWall());
    localStorage.setItem(WALL, isWall());
    changed();
  });
  new ResizeObserver(fit).observe(list);
}

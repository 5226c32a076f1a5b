// Which jobs the gallery shows, and reading them from the server part by part.

import { ask, isForgotten } from "./api.js";
import { labelOf, metaOf, titleOf } from "./describe.js";
import { $, debounced, grainOf, multiple, offer } from "./dom.js";
import { className, models } from "./models.js";
import { favouriteJobs } from "./saved.js";
import { isGone, UNLISTED } from "./store.js";

const PAGE = 12; // jobs: few enough that their cards are filled within a frame
const MOST = 100; // jobs of one answer, in which words are looked for
const PAUSE = 300; // milliseconds without a change
const filters = $("filters");
const selects = () => [...filters.querySelectorAll("select")];
const words = () => filters.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
export const onlyFavourites = () => $("favourites").ariaPressed === "true";
export const filterOf = name => filters.querySelector(`[name=${name}]`).value;
export const isFiltered = () => selects().some(select => select.value) || words().length > 0;

// All that words can find a job by: what its card says, its tag, its seeds, and the names of its classes.
function textOf(job) {
  const seeds = [job.params.seed].flat();
  const classes = [labelOf(job, 0), job.params.label].flat().filter(label => typeof label === "number").map(label => className(job.model, label));
  return [titleOf(job), metaOf(job), job.tag ?? "", ...seeds, ...classes].join(" ").toLowerCase();
}

export function matches(job) {
  if (isGone(job) || (onlyFavourites() && !favouriteJobs().includes(job.id))) return false;
  if (!["model", "kind", "state"].every(name => !filterOf(name) || filterOf(name) === job[name])) return false;
  const wanted = words();
  return !wanted.length || wanted.every(word => textOf(job).includes(word));
}

// Resolves to the next part of the jobs, as {found, next}; `next` is where the one after it begins, undefined after the last.
export async function readPart(cursor, signal) {
  if (onlyFavourites()) return favouritePart(cursor ?? 0);
  const query = new URLSearchParams({ limit: words().length ? MOST : isWall() ? 4 * PAGE : PAGE, without_tag: UNLISTED });
  for (const { name, value } of selects()) if (value) query.set(name, value);
  const found = [];
  for (let next = cursor; ; ) {
    if (next) query.set("cursor", next);
    const page = await ask("GET", `/jobs?${query}`, { signal });
    found.push(...page.jobs.filter(matches));
    next = page.next;
    if (!next || found.length >= PAGE || !words().length) return { found, next };
  }
}

// Reads some of the jobs with favourites; the cursor is the number of those that were read.
async function favouritePart(from) {
  const ids = favouriteJobs().slice(from, from + PAGE);
  const answers = await Promise.allSettled(ids.map(id => ask("GET", `/jobs/${id}`)));
  const failure = answers.find(({ reason }) => reason && !isForgotten(reason));
  if (failure) throw failure.reason;
  const next = ids.length === PAGE ? from + PAGE : undefined;
  return { found: answers.flatMap(({ value }) => (value ? [value] : [])), next };
}

export function showEverything() {
  for (const field of [...selects(), filters.querySelector("[type=search]")]) field.value = "";
  $("favourites").ariaPressed = "false";
}

// Offers the models of the server, and the one that is chosen: its jobs stay when it goes.
function showModels() {
  const menu = filters.querySelector("[name=model]");
  const names = new Set([...models.keys(), ...(menu.value ? [menu.value] : [])]);
  offer(menu, menu.options[0], ...[...names].map(name => new Option(name)));
}

// Fills in the choices, and calls a function whenever they change.
export function startFilters(changed) {
  const kinds = [...$("kind").options].map(option => Object.assign(option.cloneNode(true), { hidden: false }));
  filters.querySelector("[name=kind]").append(...kinds);
  showModels();
  document.addEventListener("models", showModels);
  for (const select of selects()) select.addEventListener("change", changed);
  filters.querySelector("[type=search]").addEventListener("input", debounced(PAUSE, changed));
  $("favourites").addEventListener("click", ({ currentTarget }) => {
    currentTarget.ariaPressed = String(currentTarget.ariaPressed !== "true");
    changed();
  });
  document.addEventListener("language", changed);
}

const [KEY, WALL] = ["difuso-density", "difuso-wall"];
const SIZES = [64, 96, 128, 192, 256]; // CSS pixels, about; half as many on the wall
const USUAL = matchMedia("(min-width: 100rem)").matches ? 3 : 2;
const LARGEST = 2; // times as large as wanted, at most
const [GAP, PADDING, SEAM] = [12, 42, 2]; // pixels between the pictures of a card, at its sides, and between pictures of the wall
export const ON_WALL = 4; // cells of a job, at most; the number of columns is a multiple of it, so that rows are filled
const [slider, list, button] = [$("density"), $("jobs"), $("wall")];
let width = 0; // of a card
export const isWall = () => button.ariaPressed === "true";

// Returns the size of pictures of which `count` fill the row: a whole multiple of the longer side, or of its grain.
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

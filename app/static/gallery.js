// The gallery: all jobs of the caller, newest first, read page by page while the reader scrolls.

import { Card } from "./card.js";
import { countOf } from "./describe.js";
import { $, el } from "./dom.js";
import { filterOf, isFiltered, matches, onlyFavourites, readPart, showEverything, startDensity, startFilters } from "./filters.js";
import { GridCard, gridOf } from "./gridcard.js";
import { notify } from "./notice.js";
import { go } from "./routes.js";
import { isGone, jobs } from "./store.js";
import { t } from "./texts.js";

const SEEN = 6; // cards that the first window may show
const NEAR = "900px"; // cards this far outside of the window are filled, and emptied beyond
const list = $("jobs");
const more = $("more");
const cards = new Map(); // the card of each job; those of a grid share one
let cursor; // of the next part of the list; undefined at its beginning, null after its end
let loading; // the AbortController of a part that is on its way
let part; // a promise of whether it came
let tilesOf; // makes what an empty gallery shows

const near = new IntersectionObserver(entries =>
  entries.forEach(({ target: { card }, isIntersecting, boundingClientRect: { height } }) => (isIntersecting ? card.show() : card.hide(height))), { rootMargin: NEAR });
const end = new IntersectionObserver(entries => entries.at(-1).isIntersecting && load(), { rootMargin: NEAR });

// Begins again, because a filter has changed.
export function reload() {
  loading?.abort();
  loading = cursor = undefined;
  for (const card of new Set(cards.values())) discard(card);
  cards.clear();
  list.replaceChildren();
  load();
}

function discard(card) {
  near.unobserve(card.element);
  card.hide(0);
  card.element.remove();
}

// Resolves to whether there was another part of the list.
async function load() {
  if (cursor === null) return false;
  if (!loading) {
    loading = new AbortController();
    part = read(loading.signal);
  }
  return part;
}

async function read(signal) {
  say(el("p", { className: "hint", textContent: t("loading") }));
  const { found, next, error } = await readPart(cursor ?? undefined, signal).catch(error => ({ error }));
  if (signal.aborted) return false;
  loading = undefined;
  if (error) {
    const again = el("button", { type: "button", textContent: t("retry"), onclick: load });
    say(el("p", { className: "error", textContent: error.message }), again);
    return false;
  }
  cursor = next ?? null;
  for (const job of found) {
    jobs.put(job);
    if (!cards.has(job.id)) add(jobs.get(job.id));
  }
  showEnd();
  return true;
}

function showEnd() {
  if (cursor !== null) {
    say();
    end.unobserve(more); // observed anew, it says at once whether the end is still near
    end.observe(more);
    return;
  }
  if (list.childElementCount) return say(el("p", { className: "hint", textContent: t("theEnd") }));
  const key = onlyFavourites() ? "noFavourites" : isFiltered() ? "noMatch" : "empty";
  const words = [el("h3", { textContent: t(key) }), el("p", { className: "hint", textContent: t(`${key}Hint`) })];
  if (key === "empty") say(el("div", { className: "first" }, ...words, tilesOf()));
  else say(el("div", { className: "empty" }, el("span", { className: "noise", "aria-hidden": "true" }), ...words, el("button", { type: "button", textContent: t("showAll"), onclick: showAll })));
}

const say = (...content) => more.replaceChildren(...content);

// Puts a job into its place by the time of its acceptance. Jobs of one grid share a card.
function add(job) {
  if (!matches(job)) return;
  const grid = gridOf(job);
  const group = grid && [...new Set(cards.values())].find(card => card.grid === grid);
  if (group) {
    cards.set(job.id, group);
    return group.update(job);
  }
  const card = grid ? new GridCard(job) : new Card(job);
  cards.set(job.id, card);
  card.element.card = card;
  card.element.dataset.at = job.accepted_at;
  let next = list.lastElementChild; // most arrive in the order of the list
  while (next && next.dataset.at < job.accepted_at) next = next.previousElementSibling;
  next ? next.after(card.element) : list.prepend(card.element);
  // What is seen is filled at once: an empty card would be painted first, and then move those below.
  const isAbove = !card.element.previousElementSibling || list.childElementCount <= SEEN;
  if (isAbove && card.element.getBoundingClientRect().top < innerHeight) card.show();
  near.observe(card.element);
}

function onJob({ detail: job }) {
  const card = cards.get(job.id);
  if (!card) {
    if (!matches(job)) return;
    const oldest = list.lastElementChild?.dataset.at;
    if (cursor === null || (oldest && job.accepted_at > oldest)) {
      add(job);
      if (cursor === null) showEnd();
    }
  } else if (isGone(job) || (filterOf("state") && filterOf("state") !== job.state)) {
    cards.delete(job.id);
    card.drop?.(job);
    if (![...cards.values()].includes(card)) discard(card);
    if (cursor === null) showEnd();
  } else card.update(job);
}

export const cardOf = id => cards.get(id);

// Brings the card of a job into view; if the filters hide it, says so.
export async function reveal(job) {
  await go("#gallery");
  await part; // of the list, where it is still on its way
  const element = cards.get(job.id)?.element;
  if (!element) return void notify(t("filteredAway"), { button: t("showAll"), press: showAll });
  const { top, bottom } = element.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) element.scrollIntoView({ block: "start" });
}

const showAll = () => (showEverything(), reload());

// The next picture after the last of a job, or the last one before it, as {job, index}; undefined at the ends of what was read.
export function beside(job, by) {
  let element = cards.get(job.id)?.element;
  do element = by > 0 ? element?.nextElementSibling : element?.previousElementSibling;
  while (element && !element.card.job?.links.images);
  const found = element?.card.job;
  return found && { job: found, index: by > 0 ? 0 : countOf(found) - 1 };
}

// Reads on after a job of the list; resolves to whether there was more.
export const readOn = async job => cards.has(job.id) && load();

export function startGallery(tiles) {
  tilesOf = tiles;
  startFilters(reload);
  startDensity(reload);
  jobs.addEventListener("job", onJob);
  jobs.addEventListener("back", ({ detail }) => (add(detail), cursor === null && showEnd()));
  document.addEventListener("server", ({ detail }) => !detail.lost && more.querySelector(".error") && load());
  document.addEventListener("models", () => cursor === null && showEnd()); // an empty gallery shows them
  jobs.addEventListener("preview", ({ detail }) => cards.get(detail.id)?.preview?.(detail.index, detail.source));
  load();
}

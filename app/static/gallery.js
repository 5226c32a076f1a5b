// The gallery: all jobs of the caller, newest first, read page by page while the reader scrolls.

import { ask } from "./api.js";
import { Card } from "./card.js";
import { $, el } from "./dom.js";
import { GridCard, gridOf } from "./gridcard.js";
import { models } from "./models.js";
import { notify } from "./notice.js";
import { go } from "./routes.js";
import { favouriteJobs } from "./saved.js";
import { isGone, jobs } from "./store.js";
import { tilesOf } from "./tiles.js";
import { t } from "./texts.js";

const PAGE = 12; // jobs: few enough that their cards are filled within a frame
const SEEN = 6; // cards that the first window may show
const NEAR = "900px"; // cards this far outside of the window are filled, and emptied beyond
const list = $("jobs");
const more = $("more");
const filters = $("filters");
const cards = new Map(); // the card of each job; those of a grid share one
let cursor; // of the next part of the list; undefined at its beginning, null after its end
let loading; // the AbortController of a part that is on its way

const near = new IntersectionObserver(
  entries => {
    for (const { target, isIntersecting, boundingClientRect } of entries) {
      if (isIntersecting) target.card.show();
      else target.card.hide(boundingClientRect.height);
    }
  },
  { rootMargin: NEAR },
);
const end = new IntersectionObserver(entries => entries.at(-1).isIntersecting && load(), { rootMargin: NEAR });

const onlyFavourites = () => $("favourites").ariaPressed === "true";
const filterOf = name => filters.querySelector(`[name=${name}]`).value;
const matches = job =>
  !isGone(job) &&
  ["model", "kind", "state"].every(name => !filterOf(name) || filterOf(name) === job[name]) &&
  (!onlyFavourites() || favouriteJobs().includes(job.id));

// Begins again, because a filter has changed.
export function reload() {
  loading?.abort();
  loading = undefined;
  cursor = undefined;
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

async function load() {
  if (loading || cursor === null) return;
  const controller = (loading = new AbortController());
  say(el("p", { className: "hint", textContent: t("loading") }));
  try {
    const { found, next } = await (onlyFavourites() ? favouritePart() : part(controller.signal));
    if (controller.signal.aborted) return;
    cursor = next ?? null;
    for (const job of found) {
      jobs.put(job);
      if (!cards.has(job.id)) add(jobs.get(job.id));
    }
    loading = undefined;
    showEnd();
  } catch (error) {
    if (controller.signal.aborted) return;
    loading = undefined;
    const again = el("button", { type: "button", textContent: t("retry"), onclick: load });
    say(el("p", { className: "error", textContent: error.message }), again);
  }
}

async function part(signal) {
  const query = new URLSearchParams({ limit: PAGE });
  for (const { name, value } of filters.querySelectorAll("select")) if (value) query.set(name, value);
  if (cursor) query.set("cursor", cursor);
  const { jobs: found, next } = await ask("GET", `/jobs?${query}`, { signal });
  return { found, next };
}

// Reads some of the jobs with favourites; the cursor is the number of those that were read.
async function favouritePart() {
  const from = cursor ?? 0;
  const ids = favouriteJobs().slice(from, from + PAGE);
  const answers = await Promise.allSettled(ids.map(id => ask("GET", `/jobs/${id}`)));
  const failure = answers.find(({ reason }) => reason && reason.type !== "job-not-found");
  if (failure) throw failure.reason;
  const next = ids.length === PAGE ? from + PAGE : undefined;
  return { found: answers.flatMap(({ value }) => (value ? [value] : [])), next };
}

function showEnd() {
  if (cursor !== null) {
    say();
    end.unobserve(more); // observed anew, it tells at once whether the end is still near
    end.observe(more);
    return;
  }
  if (list.childElementCount) return say(el("p", { className: "hint", textContent: t("theEnd") }));
  const filtered = [...filters.querySelectorAll("select")].some(select => select.value);
  const key = onlyFavourites() ? "noFavourites" : filtered ? "noMatch" : "empty";
  const words = [el("h3", { textContent: t(key) }), el("p", { className: "hint", textContent: t(`${key}Hint`) })];
  if (key === "empty") say(el("div", { className: "first" }, ...words, tilesOf()));
  else say(el("div", { className: "empty" }, el("span", { className: "noise", "aria-hidden": "true" }), ...words));
}

function say(...content) {
  more.replaceChildren(...content);
}

// Puts a job into its place by the time of its acceptance. Jobs of one grid share a card.
function add(job) {
  if (!matches(job)) return;
  const grid = gridOf(job);
  const group = grid && [...new Set(cards.values())].find(card => card.grid === grid);
  if (group) {
    cards.set(job.id, group);
    return group.update(job);
  }
  const card = grid ? new GridCard(job) : new Card(job, onlyFavourites);
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

export function cardOf(id) {
  return cards.get(id);
}

// Brings the card of a job into view; if the filters hide it, says so.
export async function reveal(job) {
  await go("#gallery");
  if ($("gallery").hidden) await new Promise(resolve => addEventListener("hashchange", resolve, { once: true }));
  const element = cards.get(job.id)?.element;
  if (!element) return void notify(t("filteredAway"), { button: t("showAll"), press: showAll });
  const { top, bottom } = element.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) element.scrollIntoView({ block: "start" });
}

function showAll() {
  for (const select of filters.querySelectorAll("select")) select.value = "";
  $("favourites").ariaPressed = "false";
  reload();
}

export function startGallery() {
  const kinds = [...$("kind").options].map(({ value, textContent }) => new Option(textContent, value));
  filters.querySelector("[name=model]").append(...[...models.keys()].map(name => new Option(name)));
  filters.querySelector("[name=kind]").append(...kinds);
  filters.addEventListener("change", reload);
  $("favourites").addEventListener("click", ({ currentTarget }) => {
    currentTarget.ariaPressed = String(currentTarget.ariaPressed !== "true");
    reload();
  });
  jobs.addEventListener("job", onJob);
  jobs.addEventListener("back", ({ detail }) => (add(detail), cursor === null && showEnd()));
  document.addEventListener("server", ({ detail }) => !detail.lost && more.querySelector(".error") && load());
  jobs.addEventListener("preview", ({ detail }) => cards.get(detail.id)?.preview?.(detail.index, detail.source));
  document.addEventListener("language", () => {
    filters.querySelectorAll("[name=kind] option:not([data-t])").forEach((option, index) => {
      option.textContent = $("kind").options[index].textContent;
    });
    reload();
  });
  load();
}

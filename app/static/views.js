// What stands beside the form: the gallery, and the views that addresses name. It is loaded once the form can be used.

import { loaded } from "./api.js";
import { titleOf } from "./describe.js";
import { $, el } from "./dom.js";
import { alarm, sheet } from "./drawer.js";
import { start as startFollowing, watchTag } from "./follow.js";
import { fillFormFrom, form } from "./form.js";
import { cardOf, reveal, startGallery } from "./gallery.js";
import { gridOf } from "./gridcard.js";
import { emptyInput, fileOf, setFile } from "./inputs.js";
import { showKeys, startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { made } from "./making.js";
import { notify } from "./notice.js";
import { closePicture, openPicture } from "./opening.js";
import { startQueue } from "./queue.js";
import { routeOf } from "./routes.js";
import { startSelection } from "./selection.js";
import { isEnded, jobs } from "./store.js";
import { t } from "./texts.js";
import { openPicker, tilesOf } from "./tiles.js";

export { reveal } from "./gallery.js";

// Views that few visits show; their modules are loaded then.
const LATER = {
  grid: async value => (await loaded("./grid.js")).openGrid(value),
  learn: async value => (await loaded("./learn/view.js")).openLearn(value),
  like: async value => (await loaded("./like.js")).openLike(value),
  walk: async value => (await loaded("./walk.js")).openWalk(value),
  compare: async value => (await loaded("./comparing.js")).openComparison(value),
  train: async value => (await loaded("./train/view.js")).openTrain(value),
};
const ALONE = ["learn", "train"]; // those beside which there is no form
const TABS = ["grid", ...ALONE]; // the others show pictures that the address names, of the gallery
const button = form.querySelector("button[type=submit]");
let [shown, training] = ["gallery"]; // the view, and what it shows where that is a training
let place = 0; // how far the reader has scrolled in the gallery

function showView() {
  const { name, value, query } = routeOf(location.hash);
  if (name === "picture" && value) return void openPicture(value).catch(alarm);
  closePicture();
  const isForm = name === "make" && sheet; // which lies over the view
  if (name === "make" && !isForm) {
    fillFormFrom(query);
    history.replaceState(null, "", "#gallery"); // so that a reload shows what the reader has changed since
  }
  const isComplete = value || TABS.includes(name);
  const view = isForm ? shown : LATER[name] && isComplete ? name : "gallery";
  [shown, training] = [view, value];
  const isOther = $(view).hidden || (view === "train" && value !== training);
  if (!$("gallery").hidden && isOther) place = scrollY;
  for (const each of ["gallery", ...Object.keys(LATER)]) $(each).hidden = each !== view;
  document.body.classList.toggle("alone", ALONE.includes(view));
  if (isOther) {
    scrollTo(0, view === "gallery" ? place : 0);
    watchTag(); // the view says whose jobs it shows
  }
  for (const each of [button, $("open")]) each.classList.toggle("main", view !== "grid"); // the grid has one of its own
  $("open").hidden = ["like", "walk", "compare"].includes(view); // which no setting changes
  for (const link of document.querySelectorAll("header nav a")) {
    link.ariaCurrent = link.hash === `#${TABS.includes(view) ? view : "gallery"}` ? "page" : null;
  }
  if (LATER[view] && !isForm) awaited($(view), LATER[view](value));
}

// Says that a view is on its way while it shows nothing.
function awaited(section, opened) {
  const words = !section.childElementCount && el("p", { className: "hint", role: "status", textContent: t("loading") });
  if (words) section.append(words);
  opened.catch(alarm).finally(() => words && words.remove());
}

const openCard = async () => (await loaded("./modelcard/view.js")).openModelCard(form.elements.model.value);

export function startViews() {
  $("help").addEventListener("click", showKeys);
  $("pick").addEventListener("click", openPicker);
  $("about").addEventListener("click", () => openCard().catch(alarm));
  document.addEventListener("favourite", ({ detail: { job, index, set } }) => document.querySelector(`#job-${job.id} figure[data-index="${index}"]`)?.classList.toggle("favourite", set));
  startGallery(tilesOf);
  startSelection();
  startQueue();
  startDropping();
  startKeys();
  startNews();
  startLive();
  startFollowing();
  addEventListener("hashchange", showView);
  showView();
}

// Announces the end of jobs that this page has made, where the reader does not see their card.
function isSeen(element) {
  if (!element?.checkVisibility()) return false;
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

function startNews() {
  jobs.addEventListener("job", ({ detail: job }) => {
    if (!isEnded(job) || !made.delete(job.id) || job.state === "cancelled" || gridOf(job)) return;
    if (isSeen(cardOf(job.id)?.element)) return;
    const words = job.state === "succeeded" ? "isDone" : "hasFailed";
    const announce = () => notify(t(words, titleOf(job)), { button: t("show"), press: () => reveal(job), error: words === "hasFailed" });
    const open = document.querySelector("dialog[open]"); // over which nothing else can be pressed
    open ? open.addEventListener("close", announce, { once: true }) : announce();
  });
}

// Pictures may be dropped or pasted anywhere; what is shown of them is loaded then.
const showDropped = async file => (await loaded("./recipe.js")).show(file);

function startDropping() {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const over = by => document.body.classList.toggle("dragging", (depth += by) > 0);
  const ours = event => [...(event.dataTransfer?.types ?? [])].some(type => type === "Files" || type.includes("difuso"));
  document.addEventListener("dragenter", event => ours(event) && over(1));
  document.addEventListener("dragleave", event => ours(event) && over(-1));
  document.addEventListener("dragover", event => ours(event) && event.preventDefault());
  document.addEventListener("drop", () => over(-depth), true);
  const alarm = error => void notify(error.message, { error: true });
  document.addEventListener("drop", async event => {
    if (!ours(event)) return; // but text
    event.preventDefault();
    const file = await fileOf(event.dataTransfer).catch(alarm);
    if (file) showDropped(file).catch(alarm);
  });
  document.addEventListener("paste", async event => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    const file = await fileOf(event.clipboardData).catch(alarm);
    if (!file) return;
    const input = emptyInput(form);
    if (input && form.checkVisibility() && !document.querySelector("dialog[open]:not(.sheet)")) setFile(input, file);
    else showDropped(file).catch(alarm);
  });
}

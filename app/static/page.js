// The page at /: starts its parts and joins them. All that they know comes from the HTTP API.

import { ask } from "./api.js";
import { surprise } from "./conditions.js";
import { $, complain } from "./dom.js";
import { startDraft } from "./draft.js";
import { start as startFollowing } from "./follow.js";
import { fillFormFrom, form, readForm, showFacts, showKind, showModel, showModels } from "./form.js";
import { reveal, startGallery } from "./gallery.js";
import { dressInputs, settled, startMask } from "./inputs.js";
import { showKeys, startKeys } from "./keys.js";
import { addKinds } from "./kinds.js";
import { startLive } from "./live.js";
import { make } from "./making.js";
import { loadModels, models } from "./models.js";
import { startNews } from "./news.js";
import { closePicture, openPicture } from "./opening.js";
import { startPrice } from "./price.js";
import { fieldOf } from "./problems.js";
import { startQueue } from "./queue.js";
import { startRecipes } from "./recipe.js";
import { routeOf } from "./routes.js";
import { startSelection } from "./selection.js";
import { language, speak, translate } from "./texts.js";
import { openPicker, tilesOf } from "./tiles.js";

const RETRY = 3000; // milliseconds until a server that has not answered is asked again
const LOOK = 10_000; // milliseconds between looks at models that no worker runs yet
const RARE_LOOK = 60_000; // milliseconds between looks when there is a worker for each

// Views that few visits show; their modules are loaded then.
const LATER = {
  grid: async value => (await import("./grid.js")).openGrid(value),
  learn: async value => (await import("./learn/view.js")).openLearn(value),
  like: async value => (await import("./like.js")).openLike(value),
  walk: async value => (await import("./walk.js")).openWalk(value),
  compare: async value => (await import("./comparing.js")).openComparison(value),
};

const button = form.querySelector("button[type=submit]");
const alarm = error => complain($("error"), error);
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

async function submit(event) {
  event.preventDefault();
  if (button.disabled) return;
  button.disabled = true; // a second click on the way would make the same twice
  try {
    await settled();
    const job = await make(readForm());
    alarm(null);
    await reveal(job);
  } catch (error) {
    alarm(error);
    point(fieldOf(error.field));
  }
  button.disabled = false;
}

// Leads the reader to a field that is wrong.
function point(field) {
  const folded = field?.closest("details");
  if (folded) folded.open = true;
  field?.focus({ preventScroll: true });
  field?.scrollIntoView({ block: "nearest" });
}

let place = 0; // how far the reader has scrolled in the gallery

function showView() {
  const { name, value, query } = routeOf(location.hash);
  if (name === "picture" && value) return void openPicture(value).catch(alarm);
  closePicture();
  if (name === "make") {
    fillFormFrom(query);
    history.replaceState(null, "", "#gallery"); // so that a reload shows what the reader has changed since
  }
  const isComplete = value || name === "grid" || name === "learn"; // the others show pictures that the address names
  const view = LATER[name] && isComplete ? name : "gallery";
  const wasSeen = !$("gallery").hidden;
  if (wasSeen && view !== "gallery") place = scrollY;
  for (const each of ["gallery", ...Object.keys(LATER)]) $(each).hidden = each !== view;
  document.body.classList.toggle("learning", view === "learn");
  if (!wasSeen && view === "gallery") scrollTo(0, place);
  button.classList.toggle("main", view !== "grid"); // the grid has one of its own
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  }
  LATER[view]?.(value).catch(alarm);
}

// Says that the server is lost, and takes that back everywhere when it answers again.
function showServer({ detail: { lost } }) {
  $("lost").hidden = !lost;
  if (!lost) document.querySelectorAll('.error[data-type="unreachable"]').forEach(element => complain(element, null));
}

// Resolves to the description of the API once the server has sent it and the models, however long that takes.
async function load() {
  for (;;) {
    try {
      const [description] = await Promise.all([ask("GET", "/openapi.json"), loadModels()]);
      alarm(null);
      return description;
    } catch (error) {
      alarm(error);
      await pause(RETRY);
    }
  }
}

// Reads the models again: often until a worker is ready for each, and then to see workers come and go.
async function awaitWorkers() {
  for (;;) {
    await pause([...models.values()].some(({ state }) => state !== "ready") ? LOOK : RARE_LOOK);
    if (document.hidden) continue;
    await loadModels().catch(() => {}); // the next look may succeed
    showKind();
    showFacts();
  }
}

const openCard = async () => (await import("./modelcard/view.js")).openModelCard(form.elements.model.value);

async function begin() {
  history.scrollRestoration = "manual"; // closing a picture by Back moves nothing
  document.addEventListener("server", showServer);
  document.documentElement.lang = language;
  $("language").value = language;
  translate(document);
  dressInputs(form);
  showKind();
  form.elements.model.addEventListener("change", showModel);
  form.addEventListener("change", showKind);
  form.addEventListener("input", showKind); // at once, too: a form that changes when a field is left moves the button away
  form.addEventListener("input", () => alarm(null)); // what was wrong may be right now; the price says so
  form.addEventListener("submit", submit);
  form.addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
  $("help").addEventListener("click", showKeys);
  $("language").addEventListener("change", ({ target }) => speak(target.value).then(showFacts).catch(alarm));
  $("surprise").addEventListener("click", () => surprise(form));
  $("pick").addEventListener("click", openPicker);
  $("about").addEventListener("click", () => openCard().catch(alarm));
  document.addEventListener("favourite", ({ detail: { job, index, set } }) => {
    document.querySelector(`#job-${job.id} figure[data-index="${index}"]`)?.classList.toggle("favourite", set);
  });
  const description = await load();
  addKinds(form, description);
  dressInputs(form);
  showModels();
  document.addEventListener("models", showModels);
  startDraft();
  button.disabled = false;
  document.body.classList.remove("waiting");
  startMask(form);
  startGallery(tilesOf);
  startSelection();
  startQueue();
  startRecipes();
  startKeys();
  startPrice();
  startNews();
  startLive();
  startFollowing();
  awaitWorkers();
  addEventListener("hashchange", showView);
  showView();
}

begin().catch(alarm);

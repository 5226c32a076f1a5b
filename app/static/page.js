// The page at /: makes the form usable, and then loads what stands beside it. All that both know comes from the HTTP API.

import { answered, ask, loaded } from "./api.js";
import { surprise } from "./conditions.js";
import { $, complain, debounced, el, pause } from "./dom.js";
import { alarm, hideForm, startDrawer } from "./drawer.js";
import { form, readForm, showKind, showModel, showModels, startDraft } from "./form.js";
import { dressInputs, settled, startMask } from "./inputs.js";
import { addKinds } from "./kinds.js";
import { make, priceOf } from "./making.js";
import { loadModels, models } from "./models.js";
import { fieldOf } from "./problems.js";
import { duration, language, number, speak, t, translate } from "./texts.js";

const RETRY = 3000; // milliseconds until a server that has not answered is asked again
const LOOK = 10_000; // milliseconds between looks at models that no worker runs yet
const RARE_LOOK = 60_000; // milliseconds between looks when there is a worker for each
const PAUSE = 600; // milliseconds without a change
let asked; // the request whose price is shown or on its way
let price; // the answer, in case the language changes
let controller; // of the one on its way
const button = form.querySelector("button[type=submit]");
let views; // a promise of the module

async function submit(event) {
  event.preventDefault();
  if (button.disabled) return;
  button.disabled = true; // a second click on the way would make the same twice
  try {
    await settled();
    const job = await make(readForm());
    alarm(null);
    hideForm();
    (await views).reveal(job);
  } catch (error) {
    alarm(error);
    point(fieldOf(error.field));
  }
  button.disabled = false;
}

function point(field) {
  const folded = field?.closest("details");
  if (folded) folded.open = true;
  field?.focus({ preventScroll: true });
  field?.scrollIntoView({ block: "nearest" });
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
    await pause([...models.values()].some(({ state }) => !["ready", "loadable", "asleep"].includes(state)) ? LOOK : RARE_LOOK);
    if (document.hidden) continue;
    await loadModels().catch(() => {}); // the next look may succeed
    showKind();
  }
}

// Takes a photograph, and asks about it; a camera opens only at once.
function takePhoto() {
  const camera = el("input", { type: "file", accept: "image/*", capture: "user", onchange: () => loaded("./portrait.js").then(({ portray }) => portray(camera.files[0])).catch(alarm) });
  camera.click();
}

async function begin() {
  history.scrollRestoration = "manual"; // closing a picture by Back moves nothing
  document.addEventListener("server", showServer);
  document.documentElement.lang = language;
  $("language").value = language;
  translate(document);
  dressInputs(form);
  showKind();
  startDrawer();
  form.elements.model.addEventListener("change", showModel);
  form.addEventListener("change", showKind);
  form.addEventListener("input", showKind); // at once, too: a form that changes when a field is left moves the button away
  form.addEventListener("input", () => alarm(null)); // what was wrong may be right now; the price says so
  form.addEventListener("submit", submit);
  form.addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
  $("language").addEventListener("change", ({ target }) => answered(speak(target.value)).then(showKind).catch(alarm));
  $("me").addEventListener("click", takePhoto);
  $("surprise").addEventListener("click", () => surprise(form).catch(alarm));
  const description = await load();
  addKinds(form, description);
  $("train-tab").hidden = !description.paths["/trainings"];
  dressInputs(form);
  showModels();
  document.addEventListener("models", showModels);
  startDraft();
  button.disabled = false;
  document.body.classList.remove("waiting");
  startMask(form);
  startPrice();
  awaitWorkers();
  views = loaded("./views.js");
  (await views).startViews();
}

// Says what the request in the form would take, asked of the server whenever the form has changed.
function sayPrice(text, error = false) {
  $("price").textContent = text;
  $("price").classList.toggle("error", error);
}

async function askPrice() {
  await settled();
  if (!form.matches(":valid")) return forgetPrice();
  const wanted = readForm();
  const key = JSON.stringify([wanted.kind, `${wanted.query}`, wanted.files.map(([name, { size, name: file, lastModified }]) => [name, file, size, lastModified])]);
  if (key === asked) return;
  controller?.abort();
  controller = new AbortController();
  asked = key;
  try {
    price = await priceOf(wanted, controller.signal);
    showPrice();
  } catch (error) {
    if (error.name === "AbortError") return;
    asked = undefined;
    sayPrice(error.message, true);
  }
}

function forgetPrice() {
  controller?.abort();
  asked = price = undefined;
  sayPrice("");
}

function showPrice() {
  if (!price) return;
  const { image_steps: steps, asleep } = price;
  const [alone, done, load] = ["seconds", "eta_seconds", "load_seconds"].map(name => (price[name] == null ? "" : duration(price[name])));
  sayPrice(t("price", number(steps), alone, done === alone ? "" : done, load, asleep));
}

function startPrice() {
  const soon = debounced(PAUSE, askPrice);
  for (const event of ["input", "change", "picture"]) form.addEventListener(event, soon);
  document.addEventListener("language", showPrice);
  document.addEventListener("server", ({ detail }) => detail.lost || soon());
  soon();
}

begin().catch(alarm);

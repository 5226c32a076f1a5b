// How diffusion works, as one story of eight screens. On each one thing moves: a slider. #learn=SCREEN is the address of a
// screen, and #learn=JOB/INDEX that of the first with a picture of the gallery.

import { answered } from "../api.js";
import { $, attempt, complain, el } from "../dom.js";
import { isMissing, jobOf, tellMissing } from "../missing.js";
import { teachable } from "../models.js";
import { go } from "../routes.js";
import { addPart, t } from "../texts.js";
import { drawn } from "./parts.js";
import { canvasOf, modelThat, picturesOf, read, Scene } from "./scene.js";
import { calls, conditions, guidance, noise, prediction, sampler, schedule, step } from "./screens.js";

const SCREENS = { noise, prediction, step, schedule, sampler, guidance, conditions, calls };
const OF_PICTURE = ["noise", "prediction", "step", "schedule"]; // those that begin with a picture
const NAMES = Object.keys(SCREENS);
const PAPER = "Modelo bayesiano para la predicción de ruido iterativo en la generación de imágenes usando Python";
const section = $("learn");
let scene;
let pictures = []; // canvases
let screen = NAMES[0];
let shown; // the picture that the address asked for
let turn = 0; // of the last scene that was begun

document.addEventListener("language", () => scene && addPart("learn").then(build));
document.addEventListener("keydown", event => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || section.hidden || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const next = NAMES[NAMES.indexOf(screen) + by];
  if (next && !event.target.matches("input, select")) go(`#learn=${next}`);
});

// Shows a screen of the lesson, or the first one with a picture.
export async function openLearn(wanted) {
  await answered(addPart("learn"));
  const isPicture = wanted?.includes("/");
  const before = screen;
  screen = NAMES.includes(wanted) ? wanted : NAMES[0];
  if (scene && (!isPicture || shown === wanted)) {
    build();
    if (screen !== before) (section.querySelector("h2").focus({ preventScroll: true }), scrollTo(0, 0));
    return;
  }
  shown = isPicture ? wanted : undefined;
  await enter(scene?.model ?? modelThat(), shown);
}

async function enter(model, wanted) {
  const mine = ++turn;
  try {
    const job = wanted && (await jobOf(wanted));
    const name = job ? job.model : model;
    if (!name) throw new Error(t("learnNoModel"));
    const path = job && job.links.images[wanted.split("/")[1]];
    const [found, own, choice] = await Promise.all([Scene.of(name), path && read(name, path), picturesOf(name)]);
    const all = own ? [own, ...choice] : choice;
    if (all.length) await found.choose(all[0]);
    if (mine !== turn) return; // the reader has chosen something else
    [pictures, scene] = [all, found];
    build();
  } catch (error) {
    if (mine !== turn) return;
    scene = shown = undefined; // the next visit tries again
    if (wanted && isMissing(error)) return tellMissing(error);
    section.replaceChildren(el("h2", { textContent: t("learnTitle") }), el("p", { className: "error", textContent: error.message }));
  }
}

const nameOf = name => t(`learn_${name}`)[0];

function build() {
  const at = NAMES.indexOf(screen);
  const [, title, text, errs] = t(`learn_${screen}`);
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const link = (to, textContent, className = "") => el("a", { href: `#learn=${to}`, className, textContent });
  const places = NAMES.map((name, index) => el("li", {}, Object.assign(link(name, nameOf(name)), { ariaCurrent: name === screen ? "step" : null, className: index < at ? "past" : "" })));
  const progress = el("nav", { "aria-label": t("learnTitle") }, el("ol", { className: "progress" }, ...places));
  const paper = el("a", { href: `https://scholar.google.com/scholar?q=${encodeURIComponent(`"${PAPER}"`)}`, rel: "noreferrer", target: "_blank", lang: "es", textContent: PAPER });
  const errata = el("details", {}, el("summary", { textContent: t("learnErrata") }), el("p", { textContent: errs }),
    el("p", { className: "hint" }, `${t("learnPaper")} `, paper, `. ${t("learnSources")}`));
  const needsPicture = OF_PICTURE.includes(screen) && !scene.canvas;
  const content = needsPicture ? [drawButton(alarm)] : SCREENS[screen](scene);
  const onwards = el("div", { className: "onwards" }, at > 0 && link(NAMES[at - 1], `← ${t("learnBack")}`, "button"), el("span", { className: "hint", textContent: `${at + 1} / ${NAMES.length}` }),
    at < NAMES.length - 1 ? link(NAMES[at + 1], t("learnNext", nameOf(NAMES[at + 1])), "button") : el("a", { href: `#make?kind=generate&model=${scene.model}`, className: "main button", textContent: t("learnDraw") }));
  const article = el("article", { dataset: { screen, model: scene.model } }, el("h2", { tabIndex: -1, textContent: title }), el("p", { textContent: text }),
    el("div", { className: "shown" }, ...content), alarm, errata);
  section.replaceChildren(progress, article, onwards, chooser());
}

function chooser() {
  const field = el("select", {}, ...teachable().map(({ name }) => new Option(name, name, false, name === scene.model)));
  field.addEventListener("change", () => {
    shown = undefined; // what the address asked for can be asked for again
    enter(field.value);
  });
  const tiles = pictures.map((canvas, index) =>
    el("button", { type: "button", className: "tile-button", "aria-label": `${t("part_image")} ${index + 1}`, "aria-pressed": String(canvas === scene.canvas), onclick: () => scene.choose(canvas).then(build) }, canvas));
  const other = el("button", { type: "button", textContent: t("learnOtherNoise"), onclick: () => (scene.seed++, build()) });
  const choice = OF_PICTURE.includes(screen) && el("div", { className: "choice", role: "group", "aria-label": t("part_image") }, ...tiles);
  return el("div", { className: "controls" }, el("label", {}, el("span", { textContent: t("model") }), field), other, choice);
}

// A model without a sheet of which nothing was drawn yet has no picture to begin with.
function drawButton(alarm) {
  const button = el("button", { type: "button", className: "main", textContent: t("drawSome", 1) });
  button.addEventListener("click", async () => {
    button.disabled = true;
    await attempt(error => complain(alarm, error), async () => {
      pictures = [canvasOf(scene.model, await createImageBitmap(await drawn(scene.model)))];
      await scene.choose(pictures[0]);
      build();
    });
    button.disabled = false;
  });
  return button;
}

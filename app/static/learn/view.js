// How it works, to be looked at and shown to a class: noise is put into a picture and taken out of it again.

import { answered } from "../api.js";
import { $, complain, el } from "../dom.js";
import { form } from "../form.js";
import { isMissing, jobOf, tellMissing } from "../missing.js";
import { teachable } from "../models.js";
import { addPart, t } from "../texts.js";
import { backwardOf } from "./backward.js";
import { forwardOf } from "./forward.js";
import { drawn } from "./network.js";
import { canvasOf, picturesOf, read } from "./pictures.js";
import { Scene } from "./scene.js";

const section = $("learn");
let scene;
let pictures = []; // canvases
let shown; // what the address asked for
let turn = 0; // of the last that was begun

document.addEventListener("language", () => scene && addPart("learn").then(build));

// Shows the lesson; `wanted`, as JOB/INDEX, is a picture of the gallery.
export async function openLearn(wanted) {
  await answered(addPart("learn"));
  if (scene && shown === wanted) return;
  shown = wanted;
  const model = form.elements.model.value;
  const names = teachable().map(each => each.name);
  await enter(scene?.model ?? (names.includes(model) ? model : names[0]), wanted);
}

// Begins with a model, or with a picture of a job and its model.
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
    section.replaceChildren(heading(), el("p", { className: "error", textContent: error.message }));
  }
}

const heading = () => el("h2", { textContent: t("learnTitle") });

function build() {
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const field = el("select", {}, ...teachable().map(({ name }) => new Option(name, name, false, name === scene.model)));
  field.addEventListener("change", () => {
    shown = undefined; // what the address asked for can be asked for again
    enter(field.value);
  });
  const head = el("div", { className: "intro" }, heading(), el("p", { textContent: t("learnLead") }));
  const chooser = el("div", { className: "controls" }, el("label", {}, el("span", { textContent: t("model") }), field));
  section.replaceChildren(head, chooser, alarm);
  if (!scene.canvas) return chooser.append(drawButton(alarm));
  const backward = backwardOf(scene);
  const forward = forwardOf(scene, backward.reset);
  const begin = () => {
    forward.update();
    backward.reset();
  };
  const tiles = pictures.map((canvas, index) => tileOf(canvas, index, begin));
  const other = el("button", { type: "button", textContent: t("learnOtherNoise"), onclick: () => (scene.seed++, begin()) });
  chooser.append(el("div", { className: "choice", role: "group", "aria-label": t("part_image") }, ...tiles), other);
  section.append(forward.element, backward.element);
  begin();
}

function tileOf(canvas, index, begin) {
  const isChosen = () => String(canvas === scene.canvas);
  const tile = el("button", { type: "button", className: "tile-button", "aria-label": `${t("part_image")} ${index + 1}`, "aria-pressed": isChosen() }, canvas);
  tile.addEventListener("click", async () => {
    await scene.choose(canvas);
    for (const each of tile.parentElement.children) each.ariaPressed = String(each === tile);
    begin();
  });
  return tile;
}

// A model without a sheet of which nothing was drawn yet has no picture to begin with.
function drawButton(alarm) {
  const button = el("button", { type: "button", className: "main", textContent: t("drawSome", 1) });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      pictures = [canvasOf(scene.model, await createImageBitmap(await drawn(scene.model)))];
      await scene.choose(pictures[0]);
      build();
    } catch (error) {
      complain(alarm, error);
      button.disabled = false;
    }
  });
  return button;
}

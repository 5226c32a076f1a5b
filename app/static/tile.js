// A finished picture of the gallery: a link that opens it and can be dragged, its film from noise to the end, and its box.

import { loaded, request } from "./api.js";
import { paint } from "./arrays.js";
import { fileName, fromNoise, nameOf, seedOf } from "./describe.js";
import { brushOf, el, here, pause } from "./dom.js";
import { ADDRESS } from "./inputs.js";
import { drawnBy, models, sidesOf } from "./models.js";
import { enterPicture } from "./routes.js";
import { addBox, choose, isChosen } from "./selection.js";
import { jobs } from "./store.js";
import { t } from "./texts.js";

const MOST = 64; // films that are remembered
const SIDE = 64; // pixels of a moment's longer side, at most
const FRAME = 110; // milliseconds of a moment, where a film plays by itself
const films = new Map(); // a promise of each, by the path of its picture

// The pictures, as JOB/INDEX, that come out of their noise once where they are first seen.
export const premieres = new Set();
export const hasFilm = job => job.links.images && job.params.steps > 1;

// Resolves to a film as {count, draw, noises}, of whose moments the first `noises` are noise alone; undefined without one.
export function filmOf(job, index) {
  const path = `${job.links.images[index]}/film`;
  if (!films.has(path)) {
    if (films.size >= MOST) films.delete(films.keys().next().value);
    films.set(path, read(path, job, index).catch(() => films.delete(path) && undefined));
  }
  return films.get(path);
}

// Returns the width and height of a moment of a picture's film, as `film_size` in jobs/moments.py does; halves go to even numbers.
function momentSize(sides) {
  const scale = Math.min(1, SIDE / Math.max(...sides));
  const rounded = side => (side % 1 === 0.5 ? 2 * Math.round(side / 2) : Math.round(side));
  return sides.map(side => Math.max(1, rounded(side * scale)));
}

async function read(path, job, index) {
  const noise = await noiseOf(job, index);
  const noises = noise ? 1 : 0;
  const strip = await createImageBitmap(await (await request(path)).blob());
  const [across, down] = momentSize(sidesOf(drawnBy(job)));
  const height = strip.height;
  const width = (height * across) / down; // `across`, but in a cascade, which films a smaller square
  const draw = (context, moment) => {
    const [source, from, size] = moment < noises ? [noise, 0, [noise.width, noise.height]] : [strip, (moment - noises) * width, [width, height]];
    context.drawImage(source, from, 0, ...size, 0, 0, context.canvas.width, context.canvas.height);
  };
  return { count: Math.round(strip.width / width) + noises, width, height, draw, noises };
}

// Resolves to a canvas with the noise that a picture was drawn from; undefined if it was drawn from anything else.
export async function noiseOf(job, index) {
  const { channels } = models.get(job.model) ?? {};
  if (job.kind !== "generate" || fromNoise(job) || ![1, 3].includes(channels)) return undefined;
  const { noiseOf: drawn } = await loaded("./learn/noise.js");
  const [width, height] = sidesOf(job.model);
  const brush = brushOf(width, height);
  paint(brush, drawn(seedOf(job, index), [channels, height, width]), channels);
  return brush.canvas;
}

// Plays the film of a tile's picture if this is its first showing; whoever wants less motion sees the picture at once.
async function playFirst(figure, job, index) {
  if (!premieres.delete(`${job.id}/${index}`) || !hasFilm(job) || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const canvas = el("canvas", { className: "frame premiere" });
  figure.querySelector(".picture").append(canvas); // the picture is not seen before
  const film = await filmOf(job, index);
  Object.assign(canvas, { width: film?.width, height: film?.height });
  for (let moment = 0; moment < film?.count; moment++) {
    film.draw(canvas.getContext("2d"), moment);
    await pause(FRAME);
  }
  canvas.remove();
}

// Returns the slider of a tile that runs from noise to the finished picture; a tile without one gets it.
function sliderOf(figure, job, index) {
  const there = figure.querySelector(".scrub");
  if (there) return there;
  const slider = el("input", { type: "range", className: "scrub", min: 0, max: 12, value: 12, step: 1, tabIndex: -1, "aria-label": t("film") });
  const canvas = el("canvas", { className: "frame", hidden: true });
  let film;
  const load = async () => {
    film ??= await filmOf(job, index);
    if (!film) return slider.remove(); // a job of an earlier version has none
    const isAtEnd = slider.value === slider.max;
    slider.max = film.count;
    if (isAtEnd) slider.value = film.count;
    Object.assign(canvas, { width: film.width, height: film.height });
  };
  const show = async () => {
    await load();
    canvas.hidden = !film || slider.value === slider.max;
    if (!canvas.hidden) film.draw(canvas.getContext("2d"), slider.valueAsNumber);
  };
  const end = () => {
    slider.value = slider.max;
    canvas.hidden = true;
  };
  slider.addEventListener("pointerenter", load);
  slider.addEventListener("input", show);
  slider.addEventListener("blur", end);
  if (!IS_TOUCH) figure.addEventListener("pointerleave", () => document.activeElement !== slider && end());
  slider.addEventListener("pointerup", () => slider.blur());
  slider.addEventListener("keydown", event => event.key === "Escape" && slider.blur());
  figure.querySelector(".picture").append(canvas);
  figure.append(slider);
  return slider;
}

// Puts the focus on the film of a picture that has it, at its beginning, so that the arrow keys run it; false if it has none.
export function focusFilm(link) {
  const figure = link.closest("figure");
  const job = jobs.get(link.closest("article")?.id.replace("job-", ""));
  if (!figure || !hasFilm(job)) return false;
  const slider = sliderOf(figure, job, Number(link.dataset.index));
  slider.focus();
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  return true;
}

const IS_TOUCH = matchMedia("(pointer: coarse)").matches;
const HOLD = 450; // milliseconds

// Lets an element with a picture be held. The click that ends a hold does nothing.
export function holdable(element) {
  let timer;
  let isHeld = false;
  element.addEventListener("pointerdown", ({ pointerType }) => {
    isHeld = false;
    if (pointerType === "mouse") return;
    timer = setTimeout(() => (isHeld = true, element.classList.add("held")), HOLD);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(end, () => clearTimeout(timer));
  element.addEventListener("contextmenu", event => IS_TOUCH && event.preventDefault()); // or the browser's own menu covers it
  element.addEventListener("click", event => isHeld && event.detail && (event.preventDefault(), event.stopPropagation()), true);
}

// A touch anywhere else lets go.
document.addEventListener("pointerdown", ({ target }) => {
  for (const held of document.querySelectorAll(".held")) if (!held.contains(target)) held.classList.remove("held");
});

export function tileOf(job, index, source) {
  const image = el("img", { src: source, alt: t("pictureAlt", nameOf(job, index)), decoding: "async", draggable: !IS_TOUCH });
  const link = el("a", { href: source, className: "picture", draggable: !IS_TOUCH, dataset: { index } }, image);
  const figure = el("figure", { dataset: { index } }, link);
  link.addEventListener("click", here(() => (IS_TOUCH && document.body.matches(".choosing") ? choose(job, index) : enterPicture(job.id, index))));
  holdable(figure);
  link.addEventListener("dragstart", event => event.dataTransfer.setData(ADDRESS, JSON.stringify([source, fileName(job, index)])));
  const dress = () => {
    if (!figure.querySelector(".box")) addBox(figure, job, index);
    if (hasFilm(job)) sliderOf(figure, job, index);
  };
  if (IS_TOUCH || isChosen(job, index)) dress();
  else figure.addEventListener("pointerenter", dress, { once: true }); // a thousand pictures need no thousand sliders
  playFirst(figure, job, index);
  return figure;
}

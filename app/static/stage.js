// What an open picture shows: itself, as large as there is room for, before and after, its film, or its denoising.

import { request } from "./api.js";
import { paint } from "./arrays.js";
import { addressOf, fileName, nameOf } from "./describe.js";
import { brushOf, el, grainOf, multiple, save } from "./dom.js";
import { isEditable } from "./editing/changes.js";
import { drawnBy, sidesOf, sizeOf } from "./models.js";
import { notify } from "./notice.js";
import { playheadOf } from "./playhead.js";
import { recall } from "./saved.js";
import { number, t } from "./texts.js";
import { filmOf, hasFilm } from "./tile.js";
import { readNpz } from "./unzip.js";

const WIDE = 384; // CSS pixels, about

// Resolves to whether there is something to compare: this browser sent the picture that the job was made from.
export async function comparable(job) {
  const image = new Map((await recall(job.id))?.files).get("image");
  return Boolean(image?.type.startsWith("image/")); // arrays cannot be drawn here
}

export async function compareOf(job, index) {
  const request = await recall(job.id);
  const files = new Map(request.files);
  const size = sizeOf(drawnBy(job));
  const before = await measured(job, files, request.fit, sidesOf(drawnBy(job)));
  const after = el("img", { src: addressOf(job, index), alt: `${t("after")}, ${nameOf(job, index)}` });
  const frame = dividedBy(before, after);
  frame.style.setProperty("--tile", `${multiple(size, Math.min(WIDE, innerWidth - 64))}px`);
  const names = el("div", { className: "scale" }, el("span", { textContent: t("before") }), el("span", { textContent: t("after") }));
  return el("div", { className: "tool" }, frame, names);
}

// Draws what the model was given: the picture at its size, without what the restoration was asked to add.
async function measured({ task }, files, fit, [width, height]) {
  const context = brushOf(width, height, { role: "img", "aria-label": t("before") });
  const factor = task.task === "superres" ? task.factor : 1;
  const small = el("canvas", { width: width / factor, height: height / factor });
  const brush = small.getContext("2d");
  brush.imageSmoothingQuality = "high";
  if (task.task === "colorize") brush.filter = "grayscale(1)";
  brush.fillStyle = "white";
  brush.fillRect(0, 0, small.width, small.height);
  await lay(brush, files.get("image"), fit);
  context.drawImage(small, 0, 0, width, height);
  if (files.has("mask")) {
    const marked = el("canvas", { width, height }).getContext("2d");
    await lay(marked, files.get("mask"), fit);
    const [pixels, holes] = [context, marked].map(each => each.getImageData(0, 0, width, height));
    for (let at = 0; at < holes.data.length; at += 4) if (holes.data[at] >= 128) pixels.data.set([136, 136, 136, 255], at);
    context.putImageData(pixels, 0, 0);
  }
  return context.canvas;
}

// Draws a file into a canvas as the server fits it: cropped or padded.
async function lay(context, file, fit) {
  const { width: across, height: down } = context.canvas;
  const bitmap = await createImageBitmap(file);
  const scale = Math[fit === "contain" ? "min" : "max"](across / bitmap.width, down / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (across - width) / 2, (down - height) / 2, width, height);
}

export function dividedBy(before, after) {
  before.className = "before";
  const slider = el("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": t("divider") });
  const frame = el("div", { className: "compare" }, after, before, el("span", { className: "divider" }), slider);
  const divide = () => frame.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", divide);
  divide();
  return frame;
}

// Returns the image of a picture; of one that can be changed in place a frame, with room for another and for the choices.
export function largeOf(job, index) {
  const isEdited = isEditable(job, index);
  const [side, isWide] = [sizeOf(drawnBy(job)), innerWidth > 768];
  const grain = grainOf(side);
  const room = isEdited && isWide ? Math.min((innerWidth - 500) / 2, innerHeight - 400) : Math.min(innerWidth - (isWide ? 480 : 64), innerHeight - 220);
  const size = grain * Math.max(1, Math.floor(room / grain));
  const image = el("img", { src: addressOf(job, index), alt: t("pictureAlt", nameOf(job, index)), className: "large" });
  image.classList.toggle("smooth", size % side !== 0);
  image.style.width = `${(sidesOf(drawnBy(job))[0] * size) / side}px`;
  if (!isEdited) return image;
  const frame = el("div", { className: "editing" }, el("div", { className: "pair" }, el("figure", { className: "new" }, image)));
  frame.style.setProperty("--wide", image.style.width);
  return frame;
}

const WIDE_FILM = 256; // CSS pixels, about

export async function filmToolOf(job, index) {
  const film = hasFilm(job) && (await filmOf(job, index));
  if (!film) return undefined;
  const picture = await createImageBitmap(await (await request(job.links.images[index])).blob());
  const canvas = el("canvas", { width: picture.width, height: picture.height });
  canvas.style.width = `${(multiple(sizeOf(drawnBy(job)), WIDE_FILM) / sizeOf(drawnBy(job))) * picture.width}px`;
  const context = canvas.getContext("2d");
  const draw = moment => (moment === film.count ? context.drawImage(picture, 0, 0) : film.draw(context, moment));
  const load = async () => (await request(`${job.links.images[index]}/film`, { headers: { Accept: "image/gif" } })).blob();
  const keep = () => load().then(blob => save(blob, fileName(job, index).replace(/png$/, "gif"))).catch(error => notify(error.message, { error: true }));
  const button = el("button", { type: "button", className: "small", textContent: t("saveFilm"), onclick: keep });
  const words = moment => (moment === film.count ? t("finished") : moment < film.noises ? t("noiseAlone") : `${moment + 1 - film.noises} / ${film.count - film.noises}`);
  return playheadOf([{ canvas, draw, caption: t("prediction") }], film.count + 1, words, button);
}

export async function denoisingOf(job, index) {
  const response = await request(job.links.image, { headers: { Accept: "application/x-npz" } });
  const arrays = await readNpz(await response.blob());
  const timesteps = arrays.get("timesteps").data;
  const captions = { x_t: t("noisyState"), x_0: t("prediction") };
  const views = Object.entries(captions).map(([name, caption]) => ({ ...viewOf(arrays.get(name), index), caption }));
  return playheadOf(views, timesteps.length, moment => {
    const time = timesteps[moment] < 0 ? t("finished") : t("atTimestep", number(timesteps[moment], timesteps[moment] % 1 ? 1 : 0));
    return t("momentOf", job.trace[moment], job.params.steps, time);
  });
}

// Returns a canvas and how to draw a moment of an array of shape (M, K, H, W, C) in [-1, 1] on it.
function viewOf({ shape, data }, index) {
  const [, moments, height, width, channels] = shape;
  const canvas = el("canvas", { width, height });
  canvas.style.width = `${multiple(width, WIDE_FILM)}px`;
  const context = canvas.getContext("2d");
  return { canvas, draw: moment => paint(context, data, channels, (index * moments + moment) * height * width * channels) };
}

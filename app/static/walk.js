// A latent walk: from seed to seed in sixty frames, to move through, to loop, and to save as a film.

import { request } from "./api.js";
import { countOf, queryLike, seedOf } from "./describe.js";
import { $, attempt, complain, el, multiple, pause, save } from "./dom.js";
import { watchTag } from "./follow.js";
import { make } from "./making.js";
import { tellMissing } from "./missing.js";
import { randomSeed } from "./modelfields.js";
import { askConditions, drawnBy, filesSent, sidesOf, sizeOf, valuesOf } from "./models.js";
import { routeOf } from "./routes.js";
import { isGone, jobs } from "./store.js";
import { t, translate } from "./texts.js";

const FRAMES = 60;
const URGENCY = 7; // others go first
const FRAME = 80; // milliseconds
const FADE = 8; // frames in which one picture fades into the next where a choice changes
const WIDE = 384; // CSS pixels, about
const section = $("walk");
let tag; // of the walk that is shown
let frames; // promises of bitmaps by the address of each picture
let parts;
let begun; // the walk that was asked for last, {tag, picture}: its first picture is seen while the frames are drawn
let run; // what plays

// Asks for the frames between pictures, each [job, index]; resolves to the tag of the walk. All have the settings of the first
// one, whose noise on the way is mixed too, so that the walk passes through the pictures themselves.
export async function makeWalk(pictures) {
  const name = `walk:${randomSeed().toString(16)}`;
  const [job, index] = pictures[0];
  const [same, files] = [queryLike(job, index), await filesSent(job)];
  same.delete("condition");
  const ways = pictures.slice(1).map((picture, each) => [pictures[each], picture]);
  const count = Math.floor(FRAMES / ways.length);
  for (const [at, ends] of ways.entries()) {
    const query = new URLSearchParams([...same, ["tag", name], ...ends.map(end => ["seed", seedOf(...end)])]);
    const last = at === ways.length - 1 ? count - 1 : count; // the end of each way is the beginning of the next
    for (let each = 0; each < count; each++) query.append("lambda", +(each / last).toFixed(4));
    const [ours, others] = ends.map(end => new Map(valuesOf(...end)));
    const conditions = Object.fromEntries([...ours].map(([name, value]) => [name, [...new Set([`${value}`, `${others.get(name)}`])]]));
    askConditions(query, { model: job.model, conditions });
    await make({ kind: "interpolate", query, files, urgency: URGENCY });
  }
  begun = { tag: name, picture: job.links.images[index] };
  return name;
}

export async function openWalk(wanted) {
  if (!parts) build();
  stop();
  if (wanted !== tag) {
    frames = new Map();
    parts.slider.value = 0;
    parts.canvas.width = 0;
  }
  tag = wanted;
  await attempt(error => complain(parts.alarm, error), async () => {
    await watchTag(wanted);
    if (routeOf(location.hash).value !== wanted) return; // the reader has gone on
    if (jobs.tagged(tag).every(isGone)) tellMissing();
    else await show();
  });
}

function build() {
  const canvas = el("canvas", { className: "walked", role: "img", dataset: { tLabel: "walk" } });
  const slider = el("input", { type: "range", min: 0, step: 1, value: 0, dataset: { tLabel: "walkFrame" } });
  const [words, alarm] = [el("output"), el("p", { className: "error", role: "alert", hidden: true })];
  const [button, film] = ["play", "saveVideo"].map(key => el("button", { type: "button", dataset: { t: key } }));
  slider.addEventListener("input", () => draw(slider.valueAsNumber));
  button.addEventListener("click", () => (run ? stop() : start()));
  film.addEventListener("click", () => record().catch(error => complain(alarm, error)));
  section.append(el("h2", { dataset: { t: "walk" } }), alarm, canvas, slider, el("div", { className: "row start" }, button, words, film));
  parts = { canvas, slider, words, alarm, button, film, addresses: [] };
  jobs.addEventListener("job", ({ detail }) => detail.tag === tag && update());
  document.addEventListener("server", ({ detail }) => detail.lost || update());
}

// Notes what plays, which the button can end.
function play(wanted) {
  run = wanted;
  parts.button.dataset.t = run ? "pause" : "play";
  translate(section);
}

const update = () => section.hidden || attempt(error => complain(parts.alarm, error), show);

async function show() {
  const all = jobs.tagged(tag).filter(job => !isGone(job));
  const [first] = all;
  const wanted = all.reduce((sum, job) => sum + countOf(job), 0);
  const drawn = all.flatMap(job => job.links.images ?? []);
  parts.addresses = drawn.length || begun?.tag !== tag ? drawn : [begun.picture];
  parts.wordsAt = at => t("walkFrames", drawn.length, wanted, at + 1);
  parts.choices = all.flatMap(job => (job.links.images ?? []).map((_, index) => valuesOf(job, index).filter(([, value]) => typeof value === "string").join()));
  parts.words.textContent = parts.wordsAt(parts.slider.valueAsNumber);
  parts.slider.disabled = parts.button.disabled = parts.film.disabled = parts.addresses.length < 2;
  if (!first || !parts.addresses.length) return;
  const [across, down] = sidesOf(drawnBy(first));
  const scale = multiple(sizeOf(drawnBy(first)), Math.min(WIDE, section.clientWidth)) / sizeOf(drawnBy(first));
  if (parts.canvas.width !== across * scale) Object.assign(parts.canvas, { width: across * scale, height: down * scale });
  parts.slider.max = parts.addresses.length - 1;
  await Promise.all(parts.addresses.map(load));
  await draw(parts.slider.valueAsNumber);
}

function load(address) {
  if (!frames.has(address)) {
    const frame = request(address).then(response => response.blob()).then(createImageBitmap);
    frame.catch(() => frames.delete(address)); // the next try may succeed
    frames.set(address, frame);
  }
  return frames.get(address);
}

// Draws a frame, or what lies between it and the one before: that one shows through as it fades.
async function draw(at, before = at, share = 1) {
  const context = parts.canvas.getContext("2d");
  const bitmaps = await Promise.all([before, at].map(each => load(parts.addresses[each])));
  context.imageSmoothingEnabled = false;
  for (const [each, bitmap] of bitmaps.entries()) {
    context.globalAlpha = each ? share : 1;
    context.drawImage(bitmap, 0, 0, parts.canvas.width, parts.canvas.height);
  }
  parts.words.textContent = parts.wordsAt(at);
  parts.slider.setAttribute("aria-valuetext", parts.words.textContent);
}

// The moments of the walk there and back, from a frame on, as `draw` takes them.
function* moments(first) {
  const there = [...parts.addresses.keys()];
  const around = [...there, ...there.slice(1, -1).reverse()];
  let before = first;
  for (const at of [...around.slice(first), ...around.slice(0, first), first]) {
    const steps = parts.choices[at] === parts.choices[before] ? 1 : FADE;
    for (let step = 1; step <= steps; step++) yield [at, before, step / steps];
    before = at;
  }
}

async function pass(moment) {
  [parts.slider.value] = moment;
  await draw(...moment);
  await pause(FRAME);
}

async function start() {
  const mine = {};
  play(mine);
  while (run === mine) {
    for (const moment of moments(parts.slider.valueAsNumber)) {
      if (run !== mine) return;
      if (section.hidden) return stop();
      await pass(moment);
    }
  }
}

const stop = () => play(undefined);

// Records the walk there and back as the browser's own kind of film, and saves it.
async function record() {
  const recorder = new MediaRecorder(parts.canvas.captureStream());
  const pieces = [];
  recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
  const ended = new Promise(resolve => recorder.addEventListener("stop", resolve, { once: true }));
  stop();
  parts.film.disabled = true;
  recorder.start();
  for (const moment of moments(0)) await pass(moment);
  recorder.stop();
  await ended;
  parts.film.disabled = false;
  const [type] = recorder.mimeType.split(";");
  save(new Blob(pieces, { type }), `difuso-walk.${type.split("/")[1]}`);
}

// Two to four pictures compared side by side, by a divider, or by their difference; and only what differs in their making.

import { request } from "./api.js";
import { addressOf, nameOf, queryOf } from "./describe.js";
import { $, brushOf, el, here, refill } from "./dom.js";
import { jobOf, tellMissing } from "./missing.js";
import { className, conditionsIn, drawnBy, sidesOf } from "./models.js";
import { enterPicture, routeOf } from "./routes.js";
import { dividedBy } from "./stage.js";
import { known, number, t, word } from "./texts.js";
import { Zoom } from "./zooming.js";

const MOST = 4;
const MODES = { side: sideBySide, divided, difference }; // each fills a stage and returns how to draw on it
const [MOST_WIDE, GAP] = [560, 16]; // CSS pixels
const section = $("compare");
let shown; // the comparison on the page

export async function openComparison(address) {
  if (shown?.address !== address) {
    const pictures = await Promise.all(address.split(",").slice(0, MOST).map(load)).catch(error => ({ error }));
    if (routeOf(location.hash).value !== address) return; // the reader has gone on
    if (pictures.error) return tellMissing(pictures.error);
    shown = { address, pictures, mode: "side", other: 1, zoom: new Zoom(), amplified: 4 };
  }
  show();
}

async function load(address) {
  const job = await jobOf(address);
  const index = Number(address.split("/")[1]);
  const response = await request(addressOf(job, index).split("?")[0]);
  return { job, index, bitmap: await createImageBitmap(await response.blob()) };
}

function show() {
  const { pictures, mode } = Object.assign(shown, { across: innerWidth });
  const modes = Object.keys(MODES).map(name => el("button", { type: "button", textContent: t(`compare_${name}`), "aria-pressed": String(name === mode), onclick: () => ((shown.mode = name), show()) }));
  const zoom = el("input", { type: "range", min: 1, max: 16, step: "any", value: shown.zoom.by, "aria-label": t("zoom") });
  const stage = el("div", { className: "compared" });
  const draws = MODES[mode](stage);
  const draw = () => {
    zoom.value = shown.zoom.by;
    draws.forEach(each => each());
  };
  zoom.addEventListener("input", () => {
    shown.zoom.scale(zoom.valueAsNumber / shown.zoom.by);
    draw();
  });
  shown.zoom.listen(stage, draw);
  const bar = el("div", { className: "row start" }, el("div", { className: "tabs", role: "group", "aria-label": t("compareThese") }, ...modes),
    el("label", { className: "size" }, el("span", { textContent: t("zoom") }), zoom));
  refill(section, el("h2", { textContent: t("comparison", pictures.length) }), bar, stage, ...others(mode), differencesOf(pictures));
  draw();
}

// Returns a canvas of the size that there is room for, and how to draw a picture on it as the zoom wants.
function canvasOf(count, ...pictures) {
  const [across, down] = sidesOf(drawnBy(shown.pictures[0].job));
  const room = Math.min(MOST_WIDE, (section.clientWidth - GAP * (count - 1)) / count);
  const width = Math.max(1, Math.floor(room / across)) * across;
  const label = pictures.map(({ job, index }) => nameOf(job, index)).join(", ");
  const context = brushOf(width, Math.round((width * down) / across), { tabIndex: 0, role: "img", "aria-label": t("pictureAlt", label) });
  return { canvas: context.canvas, context, lay: ({ bitmap }) => shown.zoom.lay(context, bitmap) };
}

function captioned(canvas, { job, index }) {
  const link = el("a", { href: `#picture=${job.id}/${index}`, textContent: nameOf(job, index), onclick: here(() => enterPicture(job.id, index)) });
  return el("figure", {}, canvas, el("figcaption", {}, link, ` · ${job.model}`));
}

function sideBySide(stage) {
  return shown.pictures.map(picture => {
    const { canvas, lay } = canvasOf(innerWidth > 768 ? shown.pictures.length : Math.min(2, shown.pictures.length), picture);
    stage.append(captioned(canvas, picture));
    return () => lay(picture);
  });
}

const pair = () => [shown.pictures[0], shown.pictures[shown.other]];

function divided(stage) {
  const [first, second] = pair();
  const [below, above] = [canvasOf(1, second), canvasOf(1, first)];
  const frame = dividedBy(above.canvas, below.canvas);
  frame.style.width = `${below.canvas.width}px`;
  frame.style.aspectRatio = below.canvas.width / below.canvas.height;
  stage.append(frame);
  return [() => (above.lay(first), below.lay(second))];
}

function difference(stage) {
  const [first, second] = pair();
  const { canvas, context, lay } = canvasOf(1, first, second);
  const gain = el("input", { type: "range", min: 1, max: 16, step: 1, value: shown.amplified, "aria-label": t("amplified") });
  const words = el("output");
  const draw = () => {
    context.globalCompositeOperation = "source-over";
    lay(first);
    context.globalCompositeOperation = "difference";
    lay(second);
    shown.amplified = gain.valueAsNumber;
    canvas.style.filter = `brightness(${shown.amplified})`;
  };
  gain.addEventListener("input", draw);
  const [mean, largest] = apart(first.bitmap, second.bitmap);
  words.textContent = t("apart", number(mean, 1), largest);
  stage.append(el("figure", {}, canvas), el("div", { className: "measured" }, words, el("label", { className: "size" }, el("span", { textContent: t("amplified") }), gain)));
  return [draw];
}

function apart(a, b) {
  const [width, height] = [Math.max(a.width, b.width), Math.max(a.height, b.height)];
  const [one, two] = [a, b].map(bitmap => {
    const context = brushOf(width, height);
    context.drawImage(bitmap, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  });
  let [sum, largest] = [0, 0];
  for (let at = 0; at < one.length; at++) {
    if (at % 4 === 3) continue; // alpha
    const by = Math.abs(one[at] - two[at]);
    sum += by;
    largest = Math.max(largest, by);
  }
  return [sum / (3 * width * height), largest];
}

// Of more than two pictures, buttons that choose which one is compared with the first.
function others(mode) {
  if (shown.pictures.length < 3 || mode === "side") return [];
  const buttons = shown.pictures.slice(1).map(({ job, index }, each) =>
    el("button", { type: "button", className: "small", textContent: nameOf(job, index), "aria-pressed": String(shown.other === each + 1), onclick: () => ((shown.other = each + 1), show()) }));
  return [el("div", { className: "tools", role: "group", "aria-label": t("compareWith") }, el("span", { className: "hint", textContent: t("compareWith") }), ...buttons)];
}

document.addEventListener("language", () => shown && !section.hidden && show());
addEventListener("resize", () => shown && !section.hidden && shown.across !== innerWidth && show());

// The words for parameters that the page calls otherwise than the API.
const TERMS = { label: "class", n: "count", pictures: "inputs", lambda: "share", task: "restoration", sigma: "noise", noise: "" };
const PREFIX = "condition:"; // of conditions, whose names may be those of parameters

// Returns a table of what differs in the requests that make pictures again; each is {job, index}.
function differencesOf(pictures) {
  const columns = pictures.map(({ job, index }) => {
    const query = queryOf(job, index);
    const conditions = conditionsIn(query);
    query.delete("condition");
    const facts = new Map([["kind", job.kind], ...[...new Set(query.keys())].map(name => [name, query.getAll(name).join(", ")]), ...conditions.map(([name, value]) => [`${PREFIX}${name}`, word(job.model, name, value)])]);
    if (facts.has("label")) facts.set("label", className(job.model, Number(facts.get("label"))));
    if (job.pictures) facts.set("pictures", job.pictures.map(({ sha256 }) => sha256.slice(0, 8)).join(", "));
    return facts;
  });
  const names = [...new Set(columns.flatMap(column => [...column.keys()]))].filter(name => new Set(columns.map(column => column.get(name))).size > 1);
  if (!names.length) return el("p", { className: "hint", textContent: t("sameRecipe") });
  const head = el("tr", {}, el("td"), ...pictures.map(({ job, index }) => el("th", { scope: "col" }, el("img", { src: addressOf(job, index), alt: nameOf(job, index) }))));
  const wordsOf = name => (name.startsWith(PREFIX) ? word(pictures[0].job.model, name.slice(PREFIX.length)) : known(TERMS[name] ?? name, name));
  const rows = names.map(name => el("tr", {}, el("th", { scope: "row", textContent: wordsOf(name) }), ...columns.map(column => el("td", { textContent: column.get(name) ?? "–" }))));
  const table = el("table", {}, el("caption", { textContent: t("differs") }), el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { className: "grid-table", tabIndex: 0, role: "region", "aria-label": t("differs") }, table);
}

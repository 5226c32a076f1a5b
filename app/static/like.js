// More like this: a picture amid eight neighbours, one of which becomes the next centre. The jobs of a ring share a tag.

import { ask } from "./api.js";
import { addressOf, countOf, fileName, fromNoise, labelOf, nameOf, queryLike, seedOf } from "./describe.js";
import { $, arrange, complain, el, grainOf, here } from "./dom.js";
import { watchTag } from "./follow.js";
import { centreOf } from "./gridcard.js";
import { fetchFile } from "./inputs.js";
import { make } from "./making.js";
import { jobOf, tellMissing } from "./missing.js";
import { randomSeed } from "./modelfields.js";
import { className, conditionsOf, drawnBy, filesSent, labelFor, models, neverWith, sizeOf, textOf, valuesOf } from "./models.js";
import { enterPicture, routeOf } from "./routes.js";
import { isEnded, isGone, jobs } from "./store.js";
import { number, t, translate, word } from "./texts.js";

const AROUND = 8; // pictures
const CHANGED = 5; // of them with another value of a condition, or another class
const SEEDS = 2; // of them from other seeds
const STRENGTHS = [0.7, 0.8, 0.9]; // of redraws: with less noise a picture looks the same
const ALONG = [0.12, 0.25, 0.4, 0.6]; // how far to go on the way between two seeds
const MOST_CRUMBS = 12;
const [GAP, NARROW] = [16, 600]; // CSS pixels between the pictures, and of a window where two stand in a row instead of four
const section = $("like");
let centre; // {job, index, tag} of the ring that is shown
let earlier = []; // the ids of its jobs that others have taken the place of
let parts;
const ring = () => jobs.tagged(centre.tag).filter(job => !isGone(job) && !earlier.includes(job.id));

for (const event of ["job", "back"]) jobs.addEventListener(event, ({ detail }) => centre && detail.tag === centre.tag && !section.hidden && show());
jobs.addEventListener("preview", ({ detail: { id, index, source } }) => {
  section.querySelector(`[data-picture="${id}/${index}"]`)?.replaceChildren(el("img", { src: source, alt: t("unfinishedAlt", "") }));
});
document.addEventListener("language", () => centre && !section.hidden && show());

// Shows the ring of a picture, JOB/INDEX, and draws it if it was not drawn before.
export async function openLike(address) {
  const job = await jobOf(address).catch(error => ({ error }));
  if (routeOf(location.hash).value !== address) return; // the reader has gone on
  if (job.error) return tellMissing(job.error);
  const tag = `like:${address}`;
  const isOther = centre?.tag !== tag;
  if (isOther) {
    if (parts) complain(parts.alarm, null);
    centre = { job, index: Number(address.split("/")[1]), tag };
    earlier = [];
  }
  show();
  if (isOther) showPath(centre);
  try {
    await watchTag(tag);
    if (isOther && centre.tag === tag && !ring().length) await draw(centre);
  } catch (error) {
    if (centre.tag === tag) complain(parts.alarm, error), show();
  }
}

addEventListener("resize", () => centre && !section.hidden && show());

async function draw({ job, index, tag }) {
  for (const { kind, query, files } of await neighboursOf(job, index)) {
    query.set("tag", tag);
    await make({ kind, query, files });
  }
}

function build() {
  const path = el("ol", { className: "crumbs", dataset: { tLabel: "likePath" } });
  const grid = el("div", { className: "ring" });
  const again = el("button", { type: "button", dataset: { t: "likeAgain" } });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const back = el("a", { href: "#gallery", className: "button", dataset: { t: "gallery" } });
  again.addEventListener("click", async () => {
    again.disabled = true;
    complain(alarm, null);
    earlier = jobs.tagged(centre.tag).map(job => job.id);
    show();
    await draw(centre).catch(error => complain(alarm, error));
    again.disabled = false;
  });
  const head = el("div", { className: "row start" }, el("h2", { dataset: { t: "like" } }), again, back);
  section.append(head, el("p", { className: "hint", dataset: { t: "likeLead" } }), path, alarm, grid);
  translate(section);
  parts = { path, grid, alarm };
}

function show() {
  if (!parts) build();
  const { job, index } = centre;
  const columns = section.clientWidth < NARROW ? 2 : 4;
  const grain = grainOf(sizeOf(drawnBy(job)));
  const tile = grain * Math.max(1, Math.floor(((section.clientWidth + GAP) / columns - GAP) / grain));
  parts.grid.style.setProperty("--tile", `${tile}px`);
  const around = ring().flatMap(each => Array.from({ length: countOf(each) }, (_, at) => tileOf(each, at))).slice(-AROUND);
  const blanks = parts.alarm.hidden ? AROUND - around.length : 0;
  const tiles = [centreTile(job, index), ...around, ...Array.from({ length: blanks }, (_, at) => ({ key: `blank ${at}`, make: () => [el("div", { className: "blank" })] }))];
  const there = new Map([...parts.grid.children].map(figure => [figure.dataset.key, figure]));
  arrange(parts.grid, tiles.map(({ key, make }, at) => there.get(key) ?? el("figure", { className: at ? "" : "middle", dataset: { key } }, ...make())));
}

// Returns {key, make}: `make` makes what a tile shows, and the key changes with it.
function centreTile(job, index) {
  const words = nameOf(job, index);
  const make = () => {
    const image = el("img", { src: addressOf(job, index), alt: t("pictureAlt", words) });
    const link = el("a", { href: `#picture=${job.id}/${index}`, className: "picture centre", onclick: here(() => enterPicture(job.id, index)) }, image);
    return [link, el("figcaption", { textContent: words })];
  };
  return { key: `${job.id}/${index} ${words}`, make };
}

function tileOf(job, index) {
  const [picture, source] = [`${job.id}/${index}`, addressOf(job, index)];
  const words = isEnded(job) && !source ? t(job.state) : differenceOf(job, index);
  const make = () => {
    const image = source && el("img", { src: source, alt: `${words}, ${nameOf(job, index)}` });
    const shown = image ? el("a", { href: `#like=${picture}`, className: "picture" }, image) : el("div", { className: "blank", dataset: { picture } });
    return [shown, el("figcaption", { textContent: words })];
  };
  return { key: `${picture} ${source} ${words}`, make };
}

// Shows the way that led to a picture: its job's tag names the centre of the ring that it was in.
async function showPath(shown) {
  const way = [];
  for (let { job, index } = shown; job && way.length < MOST_CRUMBS; ) {
    way.unshift([job, index]);
    const [id, at] = centreOf(job.tag)?.split("/") ?? [];
    job = id && (jobs.get(id) ?? (await ask("GET", `/jobs/${id}`).catch(() => undefined)));
    index = Number(at);
  }
  if (centre !== shown) return;
  const crumbs = way.filter(([job, index]) => addressOf(job, index)).map(([job, index]) => {
    const image = el("img", { src: addressOf(job, index), alt: nameOf(job, index) });
    const link = el("a", { href: `#like=${job.id}/${index}` }, image);
    if (job === shown.job && index === shown.index) link.ariaCurrent = "step";
    return el("li", {}, link);
  });
  parts.path.hidden = crumbs.length < 2;
  parts.path.replaceChildren(...crumbs);
}

// Resolves to requests for eight pictures in all: its seed with one condition changed in each, two other seeds with the same
// conditions, more of the way if it lies between two seeds, and for the rest the picture redrawn, the nearest first.
async function neighboursOf(job, index) {
  const file = await fetchFile(addressOf(job, index), fileName(job, index));
  const sent = await filesSent(job);
  const same = queryLike(job, index);
  const ways = { generate: () => [...ofOthers(job, index, same), ofSeeds(same)], interpolate: () => ofTwoSeeds(job, index, same) };
  const others = fromNoise(job) ? [] : (ways[job.kind]?.() ?? []); // which begin in the noise of a seed
  const left = AROUND - others.reduce((sum, { count }) => sum + count, 0);
  const strengths = STRENGTHS.slice(0, left);
  const redraws = strengths.map((strength, each) => {
    const n = Math.floor((left + each) / strengths.length); // the sum is what is left
    const query = new URLSearchParams({ model: job.model, strength, n, seed: randomSeed() });
    const label = labelOf(job, index);
    if (label !== undefined) query.set("label", labelFor(job.model, label));
    for (const each of same.getAll("condition")) query.append("condition", each);
    return { kind: "denoise", query, files: [["image", file], ...sent] };
  });
  return [...others.map(each => ({ ...each, files: sent })), ...redraws];
}

const asking = (query, lists) => new URLSearchParams([...query, ...Object.entries(lists).flatMap(([name, values]) => values.map(value => [name, value]))]);
const some = (all, most) => all.map(each => [Math.random(), each]).sort(([a], [b]) => a - b).slice(0, most).map(([, each]) => each);

// The same seed with one condition changed to a value that was seen with the others; or, without conditions, another class.
function ofOthers(job, index, same) {
  const now = Object.fromEntries(valuesOf(job, index));
  const changed = conditionsOf(job.model).flatMap(([name, { type, values, low, high }]) => {
    const all = { choice: () => values.filter(value => !neverWith(job.model, name, value, now)), number: () => [low, high] }[type]?.() ?? [];
    return some(all.filter(value => value !== now[name]), 1).map(value => [name, value]);
  });
  if (changed.length) return some(changed, CHANGED).map(([name, value]) => ({ kind: "generate", query: changing(same, name, value, seedOf(job, index)), count: 1 }));
  const classes = [...(models.get(job.model)?.classes ?? []).keys()].filter(each => each !== labelOf(job, index));
  const label = some(classes, CHANGED);
  const query = asking([...same].filter(([name]) => name !== "label"), { label: labelFor(job.model, label), seed: label.map(() => seedOf(job, index)) });
  return label.length ? [{ kind: "generate", query, count: label.length }] : [];
}

function changing(same, name, value, seed) {
  const kept = [...same].filter(([key, each]) => key !== "condition" || !each.startsWith(`${name}:`));
  return new URLSearchParams([...kept, ["condition", `${name}:${value}`], ["seed", seed]]);
}

const ofSeeds = same => ({ kind: "generate", query: asking(same, { seed: Array.from({ length: SEEDS }, randomSeed) }), count: SEEDS });

function ofTwoSeeds({ task }, index, same) {
  if (!task?.seeds) return [];
  const here = task.shares[index];
  const around = ALONG.flatMap(by => [here - by, here + by]).filter(share => share >= 0 && share <= 1).slice(0, CHANGED);
  const lambda = around.sort((a, b) => a - b).map(share => +share.toFixed(4));
  return [{ kind: "interpolate", query: asking(same, { seed: task.seeds, lambda }), count: lambda.length }];
}

function differenceOf(job, index) {
  const { task } = job;
  if (task?.kind === "denoise") {
    const strength = (task.depth + 1) / (models.get(job.model)?.num_train_timesteps ?? 1000);
    return t("likeRedrawn", STRENGTHS.filter(each => each < strength - 0.01).length);
  }
  if (task?.shares) return t("likeBetween", number(100 * task.shares[index]));
  const before = new Map(valuesOf(centre.job, centre.index));
  const changed = valuesOf(job, index).filter(([name, value]) => typeof value !== "object" && value !== before.get(name));
  if (changed.length) return changed.map(([name, value]) => `${word(job.model, name)}: ${textOf(value, job.model, name)}`).join(", ");
  const label = labelOf(job, index);
  if (typeof label === "number" && label !== labelOf(centre.job, centre.index)) return className(job.model, label);
  return seedOf(job, index) === seedOf(centre.job, centre.index) ? nameOf(job, index) : t("likeSeed");
}

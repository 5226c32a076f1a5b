// More like this: a picture amid eight neighbours, one of which becomes the next centre. The jobs of a ring share a tag.

import { ask } from "./api.js";
import { addressOf, countOf, nameOf } from "./describe.js";
import { $, complain, el, grainOf } from "./dom.js";
import { unwatch, watch } from "./follow.js";
import { centreOf } from "./gridcard.js";
import { make } from "./making.js";
import { jobOf, tellMissing } from "./missing.js";
import { drawnBy, sizeOf } from "./models.js";
import { AROUND, differenceOf, neighboursOf } from "./neighbours.js";
import { enterPicture, routeOf } from "./routes.js";
import { isEnded, isGone, jobs } from "./store.js";
import { t } from "./texts.js";

const MOST_CRUMBS = 12;
const [GAP, NARROW] = [16, 600]; // CSS pixels between the pictures, and of a window where two stand in a row instead of four
const section = $("like");
let centre; // {job, index, tag} of the ring that is shown
let ring = new Map(); // its jobs by id
let parts;

for (const event of ["job", "back"]) jobs.addEventListener(event, ({ detail }) => centre && detail.tag === centre.tag && put(detail));
jobs.addEventListener("preview", ({ detail: { id, index, source } }) => {
  const at = parts?.tiles.findIndex(each => each.id === id && each.index === index) ?? -1;
  parts?.grid.children[at]?.querySelector(".blank")?.replaceChildren(el("img", { src: source, alt: t("unfinishedAlt", "") }));
});
document.addEventListener("language", () => centre && !section.hidden && show());

// Shows the ring of a picture, JOB/INDEX, and draws it if it was not drawn before.
export async function openLike(address) {
  const [id, index] = address.split("/");
  const job = await jobOf(address).catch(error => ({ error }));
  if (routeOf(location.hash).value !== address) return; // the reader has gone on
  if (job.error) return tellMissing(job.error);
  const tag = `like:${id}/${index}`;
  if (centre?.tag === tag) {
    [...ring.values()].forEach(put);
    return show();
  }
  leaveLike();
  if (parts) complain(parts.alarm, null);
  centre = { job, index: Number(index), tag };
  ring = new Map();
  show();
  showPath(centre);
  try {
    for (const each of await drawn(tag)) put(each);
    if (centre?.tag === tag && !ring.size) await draw(centre);
  } catch (error) {
    if (centre?.tag === tag) complain(parts.alarm, error), show();
  }
}

function leaveLike() {
  for (const id of ring.keys()) unwatch(id);
}

addEventListener("hashchange", () => section.hidden && leaveLike());
addEventListener("resize", () => centre && !section.hidden && show());

async function drawn(tag) {
  const { jobs: found } = await ask("GET", `/jobs?limit=100&tag=${encodeURIComponent(tag)}`);
  const last = [];
  for (const job of found) {
    if (last.reduce((sum, each) => sum + countOf(each), 0) >= AROUND) break;
    jobs.put(job);
    if (!isGone(job)) last.push(job);
  }
  return last;
}

async function draw({ job, index, tag }) {
  for (const { kind, query, files } of await neighboursOf(job, index)) {
    query.set("tag", tag);
    const made = await make({ kind, query, files });
    if (centre?.tag === tag) put(made);
  }
}

function put(job) {
  if (isGone(job)) ring.delete(job.id);
  else ring.set(job.id, job);
  if (section.hidden) return;
  if (isEnded(job)) unwatch(job.id);
  else watch(job.id);
  show();
}

function build() {
  const title = el("h2");
  const lead = el("p", { className: "hint" });
  const path = el("ol", { className: "crumbs" });
  const grid = el("div", { className: "ring" });
  const again = el("button", { type: "button" });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const back = el("a", { href: "#gallery", className: "button" });
  again.addEventListener("click", async () => {
    again.disabled = true;
    complain(alarm, null);
    leaveLike();
    ring = new Map();
    await draw(centre).catch(error => complain(alarm, error));
    again.disabled = false;
  });
  section.append(el("div", { className: "row start" }, title, again, back), lead, path, alarm, grid);
  parts = { title, lead, path, grid, again, alarm, back, tiles: [] };
}

function show() {
  if (!parts) build();
  const { job, index } = centre;
  parts.title.textContent = t("like");
  parts.lead.textContent = t("likeLead");
  parts.again.textContent = t("likeAgain");
  parts.back.textContent = t("gallery");
  const columns = section.clientWidth < NARROW ? 2 : 4;
  const grain = grainOf(sizeOf(drawnBy(job)));
  const tile = grain * Math.max(1, Math.floor(((section.clientWidth + GAP) / columns - GAP) / grain));
  parts.grid.style.setProperty("--tile", `${tile}px`);
  const around = [...ring.values()].sort((a, b) => a.accepted_at.localeCompare(b.accepted_at));
  const tiles = around.flatMap(each => Array.from({ length: countOf(each) }, (_, at) => tileOf(each, at))).slice(-AROUND);
  while (tiles.length < AROUND && parts.alarm.hidden) tiles.push({ key: "", make: () => [el("div", { className: "blank" })] });
  tiles.unshift(centreTile(job, index));
  parts.tiles = tiles;
  while (parts.grid.children.length > tiles.length) parts.grid.lastChild.remove();
  tiles.forEach(({ key, make }, at) => {
    const before = parts.grid.children[at];
    if (before?.dataset.key === key) return; // what stays keeps its focus, and the click that is on its way
    const figure = el("figure", { className: at ? "" : "middle", dataset: { key } }, ...make());
    before ? before.replaceWith(figure) : parts.grid.append(figure);
  });
}

// Returns {id, index, key, make}: `make` makes what a tile shows, and the key changes with it.
function centreTile(job, index) {
  const words = nameOf(job, index);
  const make = () => {
    const image = el("img", { src: addressOf(job, index), alt: t("pictureAlt", words) });
    const link = el("a", { href: `#picture=${job.id}/${index}`, className: "picture centre", onclick: event => (event.preventDefault(), enterPicture(job.id, index)) }, image);
    return [link, el("figcaption", { textContent: words })];
  };
  return { key: `${job.id}/${index} ${words}`, make };
}

function tileOf(job, index) {
  const source = addressOf(job, index);
  const words = isEnded(job) && !source ? t(job.state) : differenceOf(job, index, centre);
  const make = () => {
    const image = source && el("img", { src: source, alt: `${words}, ${nameOf(job, index)}` });
    const shown = image ? el("a", { href: `#like=${job.id}/${index}`, className: "picture" }, image) : el("div", { className: "blank" });
    return [shown, el("figcaption", { textContent: words })];
  };
  return { id: job.id, index, key: `${job.id}/${index} ${source} ${words}`, make };
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
  parts.path.ariaLabel = t("likePath");
  parts.path.hidden = crumbs.length < 2;
  parts.path.replaceChildren(...crumbs);
}

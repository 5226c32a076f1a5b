// More like this: a picture amid eight neighbours, one of which becomes the next centre. The jobs of a ring share a tag.

import { ask } from "./api.js";
import { addressOf, countOf, nameOf } from "./describe.js";
import { $, arrange, complain, el, grainOf, here } from "./dom.js";
import { watchTag } from "./follow.js";
import { centreOf } from "./gridcard.js";
import { make } from "./making.js";
import { jobOf, tellMissing } from "./missing.js";
import { drawnBy, sizeOf } from "./models.js";
import { AROUND, differenceOf, neighboursOf } from "./neighbours.js";
import { enterPicture, routeOf } from "./routes.js";
import { isEnded, isGone, jobs } from "./store.js";
import { t, translate } from "./texts.js";

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
  const words = isEnded(job) && !source ? t(job.state) : differenceOf(job, index, centre);
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

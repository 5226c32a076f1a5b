// The jobs of one grid in the gallery, as one card. Its tag names the grid: `grid:` and the parameter of its columns.

import { addressOf, metaOf } from "./describe.js";
import { el, multiple } from "./dom.js";
import { drawnBy, sizeOf } from "./models.js";
import { isEnded } from "./store.js";
import { t } from "./texts.js";

const TILE = 64; // CSS pixels, about
const MOST = 24; // thumbnails
export const AXES = { steps: "5, 10, 20, 50", guidance_scale: "1, 2, 4, 8", eta: "0, 0.5, 1" }; // with values to begin with
const TAG = new RegExp(`^grid:(${Object.keys(AXES).join("|")}):[0-9a-f]+$`);

export const gridOf = job => (TAG.test(job.tag ?? "") ? job.tag : undefined);
export const axisOf = tag => TAG.exec(tag)?.[1];

export class GridCard {
  #shown = false;
  #jobs = new Map();

  constructor(job) {
    this.grid = gridOf(job);
    this.element = el("article");
    this.#jobs.set(job.id, job);
  }

  show() {
    this.#shown = true;
    this.#fill();
  }

  hide(height) {
    if (!this.#shown) return;
    this.#shown = false;
    this.element.style.height = `${height}px`;
    this.element.replaceChildren();
  }

  drop(job) {
    this.#jobs.delete(job.id);
    if (this.#shown && this.#jobs.size) this.#fill();
  }

  update(job) {
    this.#jobs.set(job.id, job);
    if (this.#shown) this.#fill();
  }

  #fill() {
    const all = [...this.#jobs.values()].sort((a, b) => a.accepted_at.localeCompare(b.accepted_at));
    const title = t("gridOf", t(`gridOf_${axisOf(this.grid)}`));
    const done = all.filter(isEnded).length;
    const meta = el("p", { className: "hint", textContent: `${metaOf(all[0]).split(" · ")[0]} · ${done} / ${all.length}` });
    const pictures = el("div", { className: "pictures small-tiles" });
    pictures.style.setProperty("--tile", `${multiple(sizeOf(drawnBy(all[0])), TILE)}px`);
    for (const job of all.slice(0, MOST)) {
      const source = addressOf(job, 0);
      pictures.append(source ? el("img", { src: source, alt: `${job.params.sampler}, ${job.params.steps}`, decoding: "async" }) : el("div", { className: "blank" }));
    }
    const open = el("a", { href: `#grid=${this.grid}`, className: "button small", textContent: t("gridOpen") });
    this.element.style.height = "";
    this.element.replaceChildren(el("header", {}, el("h3", { textContent: title }), meta), pictures, el("div", { className: "tools" }, open));
  }
}

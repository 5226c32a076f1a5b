// The jobs of one grid in the gallery, or of the rings or the changes of one picture, or of a walk, as one card, by their tag.

import { addressOf, countOf, metaOf, nameOf } from "./describe.js";
import { el, multiple } from "./dom.js";
import { isWall, ON_WALL } from "./filters.js";
import { randomSeed } from "./modelfields.js";
import { drawnBy, sizeOf } from "./models.js";
import { editedFrom, isEnded } from "./store.js";
import { t, word } from "./texts.js";

const TILE = 64; // CSS pixels, about
const MOST = 24; // thumbnails
const WALK = /^walk:[0-9a-f]+$/;
const RING = /^like:([0-9a-f-]{36}\/[0-9]{1,2})$/;
export const gridOf = job => ([RING, WALK].some(each => each.test(job.tag ?? "")) || axesOf(job.tag) || editedFrom(job) ? job.tag : undefined);
export const centreOf = tag => RING.exec(tag)?.[1];
const WORDS = { like: ["like", "likeOpen"], edit: ["changes", "changesOpen"], walk: ["walk", "walkOpen"], grid: ["gridOf", "gridOpen"] }; // of a card, and of its link

export class GridCard {
  #shown = false;
  #jobs = new Map();
  #meta = el("p", { className: "hint" });
  #pictures = el("div", { className: "pictures small-tiles" });

  constructor(job) {
    this.grid = gridOf(job);
    this.element = el("article");
    this.#jobs.set(job.id, job);
  }

  show() {
    if (this.#shown) return;
    this.#shown = true;
    this.element.style.height = "";
    const [kind] = this.grid.split(":");
    const [title, open] = WORDS[kind];
    const axes = (axesOf(this.grid) ?? []).map(axis => axisName(axis, [...this.#jobs.values()][0].model));
    const link = el("a", { href: `#${kind}=${centreOf(this.grid) ?? this.grid}`, className: "button small", textContent: t(open) });
    const head = el("header", {}, el("h3", { textContent: t(title, ...axes) }), this.#meta);
    this.element.replaceChildren(head, this.#pictures, isWall() ? link : el("div", { className: "tools" }, link));
    this.#fill();
  }

  hide(height) {
    if (!this.#shown || !height) return;
    this.#shown = false;
    this.element.style.height = `${height}px`;
    this.element.replaceChildren();
    this.#pictures.replaceChildren();
  }

  drop(job) {
    this.#jobs.delete(job.id);
    if (this.#shown && this.#jobs.size) this.#fill();
  }

  update(job) {
    this.#jobs.set(job.id, job);
    if (this.#shown) this.#fill();
  }

  // Fills in what changes. The link stays, and so does its focus.
  #fill() {
    const all = [...this.#jobs.values()].sort((a, b) => a.accepted_at.localeCompare(b.accepted_at));
    const shown = all.flatMap(job => Array.from({ length: countOf(job) }, (_, index) => [job, index]));
    if (editedFrom({ tag: this.grid })) this.element.querySelector("a").href = `#picture=${(all.findLast(job => addressOf(job, 0)) ?? all[0]).id}/0`;
    const left = shown.filter(([job]) => !isEnded(job)).length;
    this.#meta.textContent = `${metaOf(all[0]).split(" · ")[0]} · ${left ? `${shown.length - left} / ` : ""}${t("pictures", shown.length)}`;
    const most = isWall() ? ON_WALL - 1 : MOST;
    this.element.style.setProperty("--span", Math.min(most, shown.length) + 1);
    this.#pictures.style.setProperty("--tile", isWall() ? "" : `${multiple(sizeOf(drawnBy(all[0])), TILE)}px`);
    this.#pictures.replaceChildren(...shown.slice(0, most).map(picture => this.#pictureOf(...picture)));
    if (!isWall() && shown.length > most) this.#pictures.append(el("div", { className: "blank hint", textContent: `+${shown.length - most}` }));
  }

  #pictureOf(job, index) {
    const source = addressOf(job, index);
    return source ? el("img", { src: source, alt: nameOf(job, index), decoding: "async" }) : el("div", { className: "blank" });
  }
}

export const PREFIX = "condition:";
const AXIS = `sampler|label|plan|model|steps|guidance_scale|eta|seed|${PREFIX}[a-z0-9_]+`;
const TAG = new RegExp(`^grid:(?:(${AXIS}):)?(${AXIS}):[0-9a-f]+$`);

// The condition that an axis names, if it names one.
export const sweptBy = axis => (axis.startsWith(PREFIX) ? axis.slice(PREFIX.length) : undefined);

// The tag of a new grid. It is short: a tag has at most 64 characters.
export const newTag = axes => `grid:${axes.join(":").replaceAll(PREFIX, "c:")}:${randomSeed().toString(16)}`;

// Returns the axes of a grid by its tag, rows first; undefined if it is the tag of anything else. Earlier grids name their columns only.
export function axesOf(tag) {
  const [, rows, columns] = TAG.exec(tag?.replace(/:c(?=:)/g, ":condition") ?? "") ?? [];
  return columns && [rows ?? "sampler", columns];
}

export function axisName(axis, model) {
  const name = sweptBy(axis) ? word(model, sweptBy(axis)) : t(axis === "label" ? "class" : axis);
  return name[0].toUpperCase() + name.slice(1);
}

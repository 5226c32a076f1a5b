// The card of a job in the gallery. It is filled only near the window: outside it keeps its height and nothing else.

import { deleteJob, deleteWords, saveAs, useSettings } from "./actions.js";
import { ask, loaded } from "./api.js";
import { addressOf, countOf, foundWords, metaOf, nameOf, shownOf, stepsOf, titleOf } from "./describe.js";
import { attempt, complain, el, here, multiple, once } from "./dom.js";
import { isWall, ON_WALL, onlyFavourites, sizeFor } from "./filters.js";
import { unwatch, watch } from "./follow.js";
import { drawnBy, sizeOf } from "./models.js";
import { enterPicture } from "./routes.js";
import { isFavourite } from "./saved.js";
import { isEnded, jobs } from "./store.js";
import { duration, number, t } from "./texts.js";
import { noiseOf, tileOf } from "./tile.js";

const FOLD = 16; // pictures that a card shows without being asked for more
const FOLDED = 12;
const [WIDE, SMALL] = [256, 64]; // CSS pixels of an interpolation and of its film, about

export class Card {
  #shown = false;
  #isUnfolded = false;
  #previews = new Map(); // the last of each picture, in case the job is cancelled

  constructor(job) {
    this.job = job;
    this.element = el("article", { id: `job-${job.id}` });
    this.element.style.setProperty("--span", Math.min(ON_WALL, countOf(job)));
  }

  show() {
    watch(this.job.id);
    if (this.#shown) return;
    this.#shown = true;
    this.#fill();
  }

  hide(height) {
    if (!this.#shown) return;
    unwatch(this.job.id);
    if (!height) return; // the whole gallery is hidden, or the card goes
    this.#shown = false;
    this.element.style.height = `${height}px`;
    this.element.replaceChildren();
  }

  update(job) {
    const before = this.job;
    this.job = job;
    if (!this.#shown) return;
    if (isEnded(job) || isEnded(before)) this.#fill();
    else this.#showProgress();
  }

  #fill() {
    const { job } = this;
    this.element.style.height = "";
    this.element.setAttribute("aria-label", titleOf(job));
    const some = this.#wanted.length < countOf(job) ? `★ ${this.#wanted.length} / ${countOf(job)} · ` : "";
    const head = el("header", {}, el("h3", { textContent: titleOf(job) }), el("p", { className: "hint", textContent: some + metaOf(job) }));
    this.alarm = el("p", { className: "error", role: "alert", hidden: true });
    this.element.replaceChildren(head, this.alarm);
    if (!isEnded(job)) {
      this.state = el("p", { className: "state", role: "status" });
      this.bar = el("progress", { "aria-label": titleOf(job) });
      this.element.append(this.bar, this.#pictures(), this.#tools());
      return this.#showProgress();
    }
    if (job.links.images || job.links.pictures) this.element.append(this.#pictures());
    else this.element.append(el("p", { className: "state", textContent: t(job.state) }), this.#previews.size ? this.#pictures() : "");
    if (foundWords(job)) this.element.append(el("p", { className: "hint", textContent: foundWords(job) }));
    if (job.failure) complain(this.alarm, new Error(t("failures")[job.failure.code] ?? job.failure.detail));
    this.element.append(this.#tools());
  }

  #showProgress() {
    const { state, position, steps, eta_seconds: seconds } = this.job;
    const [done, total] = stepsOf(this.job);
    const left = seconds === undefined ? "" : duration(Math.max(1, seconds));
    this.state.textContent = state === "queued" ? t("waiting", position, left) : t("progress", done, total, left);
    this.bar.max = steps.total;
    this.bar.value = steps.done;
  }

  #pictures() {
    const { job } = this;
    const onWall = isWall();
    if (!onWall && job.task?.shares && job.links.images && countOf(job) > 2 && !onlyFavourites()) return stripOf(job);
    const wanted = this.#wanted;
    const pictures = el("div", { className: "pictures" });
    const [most, folded] = onWall ? [ON_WALL, ON_WALL - 1] : [FOLD, FOLDED];
    const isFolded = wanted.length > most && !this.#isUnfolded;
    const seen = isFolded ? wanted.slice(0, folded) : wanted;
    if (onWall) this.element.style.setProperty("--span", Math.min(ON_WALL, wanted.length));
    else this.#size(pictures, seen.length);
    pictures.append(...seen.map(index => this.#tile(index)));
    if (!isFolded) return pictures;
    const words = t("showPictures", wanted.length);
    const more = el("button", { type: "button", className: "small", textContent: onWall ? `+${wanted.length - folded}` : words, ariaLabel: words });
    more.addEventListener("click", () => {
      this.#isUnfolded = true;
      this.element.classList.add("unfolded");
      this.#fill();
      this.element.querySelectorAll("a.picture")[folded]?.focus();
    });
    return el("div", { className: "folded" }, pictures, more);
  }

  get #wanted() {
    const all = Array.from({ length: countOf(this.job) }, (_, index) => index);
    return all.filter(index => !onlyFavourites() || isFavourite(this.job.id, index));
  }

  #size(pictures, count) {
    const side = sizeOf(drawnBy(this.job));
    const size = sizeFor(side, count);
    pictures.style.setProperty("--tile", `${size}px`);
    pictures.classList.toggle("smooth", size % side !== 0);
  }

  #tile(index) {
    const { job } = this;
    const source = addressOf(job, index);
    const figure = source ? tileOf(job, index, source) : el("figure", { dataset: { index } });
    if (!source) figure.append(this.#seen(index) ?? this.#unfinished(index, figure));
    figure.classList.toggle("favourite", isFavourite(job.id, index));
    figure.append(el("figcaption", { textContent: nameOf(job, index) }));
    return figure;
  }

  // The picture of an image that is not a PNG: it can be looked at, and is no image of the model.
  #seen(index) {
    const source = shownOf(this.job, index);
    return source && el("a", { href: source, target: "_blank" }, el("img", { src: source, alt: t("pictureAlt", nameOf(this.job, index)) }));
  }

  #unfinished(index, figure) {
    const source = this.#previews.get(index);
    figure.classList.toggle("unfinished", Boolean(source));
    if (source) return el("img", { src: source, alt: t("unfinishedAlt", nameOf(this.job, index)) });
    const blank = el("div", { className: "blank" });
    noiseOf(this.job, index).then(noise => noise && blank.replaceWith(Object.assign(noise, { className: "blank" })), () => {}); // in which it begins
    return blank;
  }

  preview(index, source) {
    this.#previews.set(index, source);
    const figure = this.#shown && this.element.querySelector(`figure[data-index="${index}"]`);
    if (!figure || isEnded(this.job)) return; // a mean has previews of all its samples, but only one picture
    figure.firstElementChild.replaceWith(this.#unfinished(index, figure));
  }

  #tools() {
    const { job } = this;
    const tools = el("div", { className: "tools" });
    const button = (key, action, text = t(key)) =>
      tools.append(el("button", { type: "button", className: `small ${key}`, textContent: text, onclick: event => once(event, () => attempt(error => complain(this.alarm, error), action)) }));
    if (!isEnded(job)) {
      button("cancel", async () => jobs.put(await ask("DELETE", job.links.self)));
      tools.append(this.state); // here, so that the card is as high at its end
      return tools;
    }
    button("useSettings", () => useSettings(job));
    if (job.links.image && !job.links.images) button("saveArrays", () => saveAs(job, "application/x-npz", "npz"));
    if (job.links.images && countOf(job) > 1) {
      button("saveZip", () => saveAs(job, "application/zip", "zip"));
      button("saveSheet", () => saveAs(job, "image/png", "png"));
    }
    if (job.links.image) button("command", async () => (await loaded("./command.js")).showCommand(job, tools));
    button("delete", () => deleteJob(job), this.#wanted.length < countOf(job) ? t("deleteWhole", countOf(job)) : deleteWords(job));
    return tools;
  }
}

// A slider over the pictures of an interpolation, which lie on each other; moving only changes which one is seen.
function stripOf(job) {
  const shares = job.task.shares;
  const size = multiple(sizeOf(drawnBy(job)), WIDE);
  const images = shares.map((_, index) => el("img", { src: addressOf(job, index), alt: t("pictureAlt", nameOf(job, index)), hidden: true }));
  const pile = el("a", { href: addressOf(job, 0), className: "pile picture", onclick: here(() => enterPicture(job.id, slider.valueAsNumber)) }, ...images);
  const value = el("output");
  const slider = el("input", { type: "range", min: 0, max: countOf(job) - 1, step: 1, "aria-label": t("share") });
  const film = shares.map((share, index) =>
    el("button", { type: "button", "aria-label": `λ ${number(share, 2)}`, onclick: () => ((slider.value = index), show()) }, el("img", { src: addressOf(job, index), alt: "" })));
  const show = () => {
    const index = slider.valueAsNumber;
    images.forEach((image, each) => (image.hidden = each !== index));
    pile.href = addressOf(job, index);
    pile.dataset.index = index;
    film.forEach((button, each) => (button.ariaPressed = String(each === index)));
    value.textContent = `λ ${number(shares[index], 2)}`;
    slider.setAttribute("aria-valuetext", value.textContent);
  };
  slider.addEventListener("input", show);
  slider.value = Math.floor(countOf(job) / 2);
  show();
  const ends = job.task.seeds ?? [t("part_image_a"), t("part_image_b")];
  const scale = el("div", { className: "scale" }, el("span", { textContent: ends[0] }), value, el("span", { textContent: ends[1] }));
  const strip = el("div", { className: "strip" }, pile, el("div", { className: "film" }, ...film), el("div", { className: "strip-side" }, slider, scale));
  strip.style.setProperty("--tile", `${size}px`);
  strip.style.setProperty("--small", `${multiple(sizeOf(drawnBy(job)), SMALL)}px`);
  return strip;
}

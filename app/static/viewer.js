// One picture, as large as whole multiples allow, with its facts, its tools, and what can be made of it.

import { deleteJob, deleteWords, useFile, useSettings } from "./actions.js";
import { loaded } from "./api.js";
import { copy, snippetsView } from "./command.js";
import { comparable, compareOf } from "./compare.js";
import { addressOf, countOf, fileName, fromNoise, metaOf, nameOf, queryOf, titleOf } from "./describe.js";
import { complain, el, grainOf, once, openDialog, refill, save } from "./dom.js";
import { factsOf } from "./facts.js";
import { filmToolOf } from "./filmtool.js";
import { form } from "./form.js";
import { beside, readOn, reveal } from "./gallery.js";
import { fetchFile, placesOf } from "./inputs.js";
import { make } from "./making.js";
import { drawnBy, fromPicture, sidesOf, sizeOf, teachable } from "./models.js";
import { go, linkOf, turnPicture } from "./routes.js";
import { isFavourite, toggleFavourite } from "./saved.js";
import { t } from "./texts.js";
import { filesSent } from "./values.js";

export class Viewer {
  // `closed` is called when the reader has closed it.
  constructor(job, index, closed) {
    this.job = job;
    this.index = index;
    this.stage = el("div", { className: "stage" });
    this.side = el("div", { className: "side" });
    this.dialog = openDialog("viewer", titleOf(job), t("close"), this.stage, this.side);
    this.dialog.addEventListener("close", () => closed(this));
    this.#lookUp();
    this.show();
  }

  show() {
    const { job, index } = this;
    this.alarm = el("p", { className: "error", role: "alert", hidden: true });
    const favourite = this.#button("favourite", () => this.favourite());
    favourite.textContent = "★";
    favourite.ariaLabel = t("favourite");
    favourite.ariaPressed = String(isFavourite(job.id, index));
    const link = el("p", { className: "link", hidden: true, textContent: linkOf(job, index, queryOf(job, index)) });
    const share = this.#button("copyLink", () => copy(link.textContent, share, link));
    const tools = el("div", { className: "tools" }, favourite, !fromPicture(job.model) && this.#button("like", () => this.like()), this.#button("savePicture", () => this.save()),
      share, this.#button("useSettings", () => this.settings()), this.#button("delete", () => this.delete(), deleteWords(job)));
    const code = el("details", {}, el("summary", { textContent: t("command") }));
    code.addEventListener("toggle", async () => code.childElementCount > 1 || code.append(await snippetsView(job, index)));
    const places = placesOf(form).map(place => {
      const button = el("button", { type: "button", className: "small", textContent: place.text });
      button.addEventListener("click", () => this.#try(() => this.#useFor(place)));
      return button;
    });
    const lesson = teachable().some(({ name }) => name === job.model) && !job.task?.upscale && el("a", { className: "button small", href: `#learn=${job.id}/${index}`, textContent: t("learn") });
    const onwards = el("section", {}, el("h3", { textContent: t("useFor") }), el("div", { className: "tools" }, ...places, lesson));
    const title = el("h2", { textContent: nameOf(job, index) });
    refill(this.side, title, el("p", { className: "hint", textContent: `${titleOf(job)} · ${metaOf(job)}` }), tools, link, this.alarm,
      onwards, factsOf(job, index), code);
    this.tabs = [["asIs", () => this.#picture()]];
    if (this.canCompare) this.tabs.push(["compare", () => compareOf(job, index)]);
    this.tabs.push(["watch", async () => (job.trace ? (await loaded("./denoising.js")).denoisingOf(job, index) : filmToolOf(job, index))]);
    this.#showTab(this.tabs.some(([key]) => key === this.tab) ? this.tab : "asIs");
  }

  #button(key, action, text = t(key)) {
    const button = el("button", { type: "button", className: `small ${key}`, textContent: text });
    button.addEventListener("click", event => once(event, () => this.#try(action)));
    return button;
  }

  async #showTab(key) {
    this.tab = key;
    const bar = el("div", { className: "tabs", role: "group", "aria-label": t("asIs") });
    for (const [name] of this.tabs) {
      const tab = el("button", { type: "button", textContent: t(name), "aria-pressed": String(name === key), dataset: { tab: name } });
      tab.addEventListener("click", () => this.#showTab(name));
      bar.append(tab);
    }
    if (key === "watch" && !this.job.trace && this.job.kind === "generate" && !this.job.task?.upscale && !fromNoise(this.job)) bar.append(this.#button("remakeTrace", () => this.#remake()));
    const { job, index } = this;
    let content;
    try {
      content = await this.tabs.find(([name]) => name === key)[1]();
    } catch (error) {
      complain(this.alarm, error);
    }
    if (job !== this.job || index !== this.index || key !== this.tab) return; // the reader has gone on
    refill(this.stage, bar, content ?? el("p", { className: "hint", textContent: t("noFilm") }), this.#steps());
  }

  #picture() {
    const { job, index } = this;
    const side = sizeOf(drawnBy(job));
    const grain = grainOf(side);
    const room = Math.min(innerWidth - (innerWidth > 768 ? 480 : 64), innerHeight - 220);
    const image = el("img", { src: addressOf(job, index), alt: t("pictureAlt", nameOf(job, index)), className: "large" });
    const size = grain * Math.max(1, Math.floor(room / grain));
    image.style.width = `${(sidesOf(drawnBy(job))[0] * size) / side}px`;
    image.classList.toggle("smooth", size % side !== 0);
    return image;
  }

  #steps() {
    const count = countOf(this.job);
    const step = (key, text, by) => {
      const button = el("button", { type: "button", textContent: text, "aria-label": t(key), disabled: !this.#next(by) });
      button.addEventListener("click", () => this.move(by));
      return button;
    };
    const place = el("span", { className: "hint", textContent: `${this.index + 1} / ${count}` });
    const steps = el("div", { className: "steps" }, step("previous", "←", -1), place, step("next", "→", 1));
    if (!this.#next(1)) readOn(this.job).then(isMore => isMore && steps.isConnected && refill(steps, ...this.#steps().children));
    return steps;
  }

  // The picture before or after this one, of the same job or the one beside it in the gallery.
  #next(by) {
    const index = this.index + by;
    return index >= 0 && index < countOf(this.job) ? { job: this.job, index } : beside(this.job, by);
  }

  move(by) {
    const next = this.#next(by);
    if (!next) return;
    const { job } = this;
    Object.assign(this, next);
    turnPicture(this.job.id, this.index);
    if (this.job !== job) this.#lookUp();
    this.show();
  }

  // Finds out whether the picture can be compared with what it was made from.
  async #lookUp() {
    const { job } = this;
    this.canCompare = false;
    if (!(await comparable(job)) || job !== this.job) return;
    this.canCompare = true;
    this.show();
  }

  nextTab() {
    const at = this.tabs.findIndex(([key]) => key === this.tab);
    this.#showTab(this.tabs[(at + 1) % this.tabs.length][0]);
  }

  favourite() {
    const set = toggleFavourite(this.job.id, this.index);
    this.side.querySelector(".favourite").ariaPressed = String(set);
    document.dispatchEvent(new CustomEvent("favourite", { detail: { ...this, set } }));
  }

  like() {
    if (fromPicture(this.job.model)) return false;
    return go(`#like=${this.job.id}/${this.index}`);
  }

  async save() {
    const file = await fetchFile(addressOf(this.job, this.index), fileName(this.job, this.index));
    save(file, file.name);
  }

  async settings() {
    this.dialog.close();
    await useSettings(this.job, this.index);
  }

  delete() {
    this.dialog.close();
    deleteJob(this.job);
  }

  async #useFor(place) {
    const file = await fetchFile(addressOf(this.job, this.index), fileName(this.job, this.index));
    this.dialog.close();
    useFile(place, file, this.job.model);
  }

  async #remake() {
    const files = await filesSent(this.job);
    const job = await make({ kind: this.job.kind, query: queryOf(this.job, this.index), files, trace: true });
    this.dialog.close();
    reveal(job);
  }

  async #try(action) {
    try {
      await action();
    } catch (error) {
      complain(this.alarm, error);
    }
  }
}

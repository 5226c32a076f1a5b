// One picture, as large as whole multiples allow, with its facts, its tools, and what can be made of it.

import { deleteJob, deleteWords, useFile, useSettings } from "./actions.js";
import { loaded } from "./api.js";
import { copy, snippetsView } from "./command.js";
import { addressOf, countOf, factsOf, fileName, fromNoise, metaOf, nameOf, queryOf, titleOf } from "./describe.js";
import { attempt, complain, el, once, openDialog, refill, save } from "./dom.js";
import { form } from "./form.js";
import { beside, readOn, reveal } from "./gallery.js";
import { fetchFile, placesOf } from "./inputs.js";
import { make } from "./making.js";
import { drawnBy, enlargersOf, filesSent, fromPicture, models, teachable } from "./models.js";
import { go, linkOf, turnPicture } from "./routes.js";
import { isFavourite, toggleFavourite } from "./saved.js";
import { comparable, compareOf, denoisingOf, filmToolOf, largeOf } from "./stage.js";
import { t } from "./texts.js";
import { hasFilm } from "./tile.js";

const marked = isSet => ({ ariaPressed: String(isSet), textContent: isSet ? "★" : "☆" });

export class Viewer {
  #say = error => complain(this.alarm, error);

  constructor(job, index, closed) {
    const [stage, side] = ["stage", "side"].map(className => el("div", { className }));
    Object.assign(this, { job, index, stage, side, root: { job, index } }); // the root is what was opened, before changes in place
    this.dialog = openDialog("viewer", titleOf(job), t("close"), this.stage, this.side);
    this.dialog.addEventListener("close", () => (this.#leave(), closed(this)));
    this.#lookUp();
    this.show();
  }

  show() {
    this.#describe();
    this.tabs = [["asIs", () => this.#picture()]];
    if (this.canCompare) this.tabs.push(["compare", () => compareOf(this.job, this.index)]);
    if (this.job.trace || hasFilm(this.job)) this.tabs.push(["watch", () => (this.job.trace ? denoisingOf : filmToolOf)(this.job, this.index)]);
    this.#showTab(this.tabs.some(([key]) => key === this.tab) ? this.tab : "asIs");
  }

  #describe() {
    const { job, index } = this;
    this.alarm = el("p", { className: "error", role: "alert", hidden: true });
    const favourite = this.#button("favourite", () => this.favourite());
    Object.assign(favourite, { ariaLabel: t("favourite"), ...marked(isFavourite(job.id, index)) });
    const link = el("p", { className: "link", hidden: true, textContent: linkOf(job, index, queryOf(job, index)) });
    const share = this.#button("copyLink", () => copy(link.textContent, share, link));
    const tools = el("div", { className: "tools" }, favourite, !fromPicture(job.model) && this.#button("like", () => this.like()), this.#button("savePicture", () => this.save()),
      share, this.#button("useSettings", () => this.settings()), this.#button("delete", () => this.delete(), deleteWords(job)));
    const code = el("details", {}, el("summary", { textContent: t("command") }));
    code.addEventListener("toggle", async () => code.childElementCount > 1 || code.append(await snippetsView(job, index)));
    const [enlarger] = enlargersOf(models.get(drawnBy(job)));
    const usable = placesOf(form).filter(({ kind }) => kind !== "upscale" || enlarger);
    const places = usable.map(place => this.#button("", () => this.#useFor(place, place.kind === "upscale" ? enlarger.name : job.model), place.kind === "upscale" ? `${place.text}: ${enlarger.name}` : place.text));
    const lesson = teachable().some(({ name }) => name === job.model) && !job.task?.upscale && el("a", { className: "button small", href: `#learn=${job.id}/${index}`, textContent: t("learn") });
    const onwards = el("section", {}, el("h3", { textContent: t("useFor") }), el("div", { className: "tools" }, ...places, lesson));
    refill(this.side, el("h2", { textContent: nameOf(job, index) }), el("p", { className: "hint", textContent: `${titleOf(job)} · ${metaOf(job)}` }), tools, link, this.alarm,
      onwards, factsOf(job, index), code);
  }

  #button(key, action, text = t(key)) {
    return el("button", { type: "button", className: `small ${key}`, textContent: text, onclick: event => once(event, () => attempt(this.#say, action)) });
  }

  async #showTab(key) {
    this.tab = key;
    const tabs = this.tabs.map(([name]) => el("button", { type: "button", textContent: t(name), "aria-pressed": String(name === key), dataset: { tab: name }, onclick: () => this.#showTab(name) }));
    const bar = el("div", { className: "tabs", role: "group", "aria-label": t("asIs"), hidden: tabs.length < 2 }, ...tabs);
    const { job, index } = this;
    const canTrace = key === "watch" && !job.trace && job.kind === "generate" && !job.task?.upscale && !fromNoise(job);
    const [, show] = this.tabs.find(([name]) => name === key);
    const content = await Promise.resolve().then(show).catch(this.#say);
    if (job !== this.job || index !== this.index || key !== this.tab) return; // the reader has gone on
    refill(this.stage, bar, content ?? el("p", { className: "hint", textContent: t("noFilm") }), ...(canTrace ? [this.#button("remakeTrace", () => this.#remake())] : []), this.#steps());
  }

  #picture() {
    if (this.frame) return this.frame;
    const frame = largeOf(this.job, this.index);
    if (!frame.matches(".editing")) return frame;
    this.editing = loaded("./editing/view.js").then(({ editingOf }) => editingOf(frame, this));
    attempt(this.#say, () => this.editing);
    return (this.frame = frame);
  }

  // Takes a picture for this one, which was changed into it where it stands.
  turn({ job, index }) {
    Object.assign(this, { job, index });
    turnPicture(job, index, queryOf(job, index));
    this.#describe();
    if (this.tab !== "asIs") this.#showTab(this.tab); // another tool was opened while it was drawn
  }

  #leave() {
    this.editing?.then(editing => editing?.stop(), () => {});
    this.frame = this.editing = undefined;
  }

  #steps() {
    const count = countOf(this.job);
    const step = (key, text, by) => el("button", { type: "button", textContent: text, "aria-label": t(key), disabled: !this.#next(by), onclick: () => this.move(by) });
    const place = el("span", { className: "hint", textContent: `${this.index + 1} / ${count}` });
    const steps = el("div", { className: "steps" }, step("previous", "←", -1), place, step("next", "→", 1));
    if (!this.#next(1)) readOn(this.job).then(isMore => isMore && steps.isConnected && refill(steps, ...this.#steps().children));
    return steps;
  }

  // The picture before or after this one, of the same job or the one beside it in the gallery.
  #next(by) {
    const { job, index } = this.root;
    return index + by >= 0 && index + by < countOf(job) ? { job, index: index + by } : beside(job, by);
  }

  move(by) {
    const next = this.#next(by);
    if (!next) return;
    const { job } = this;
    this.#leave();
    Object.assign(this, next, { root: next });
    turnPicture(this.job, this.index);
    if (this.job !== job) this.#lookUp();
    this.show();
  }

  // Finds out whether the picture can be compared with what it was made from.
  async #lookUp() {
    const { job } = this;
    this.canCompare = false;
    const isThere = await comparable(job);
    if (isThere && job === this.job) (this.canCompare = true), this.show();
  }

  nextTab = () => this.#showTab(this.tabs[(this.tabs.findIndex(([key]) => key === this.tab) + 1) % this.tabs.length][0]);

  favourite() {
    const set = toggleFavourite(this.job.id, this.index);
    Object.assign(this.side.querySelector(".favourite"), marked(set));
    document.dispatchEvent(new CustomEvent("favourite", { detail: { ...this, set } }));
  }

  like = () => (fromPicture(this.job.model) ? false : go(`#like=${this.job.id}/${this.index}`));

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

  async #useFor(place, model) {
    const file = await fetchFile(addressOf(this.job, this.index), fileName(this.job, this.index));
    this.dialog.close();
    await useFile(place, file, model);
  }

  async #remake() {
    const files = await filesSent(this.job);
    const job = await make({ kind: this.job.kind, query: queryOf(this.job, this.index), files, trace: true });
    this.dialog.close();
    reveal(job);
  }
}

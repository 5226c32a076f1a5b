// The open picture, changed in place: what it was drawn with stands under it, and a change is drawn beside the picture before.

import { addressOf, nameOf, queryOf } from "../describe.js";
import { complain, el } from "../dom.js";
import { drawNow } from "../making.js";
import { jobOf } from "../missing.js";
import { remember } from "../saved.js";
import { editedFrom, jobs } from "../store.js";
import { t } from "../texts.js";
import { partsOf, sentWith, sketchOf, wordsFor } from "./changes.js";
import { Newest } from "./newest.js";
import { choicesOf, slidersOf } from "./values.js";

const PATIENCE = 400; // milliseconds that a sketch may take once a newer one is wanted
const LONG = 3000; // milliseconds after which the reader hears that a picture takes long

export async function editingOf(frame, viewer) {
  const { job, index } = viewer;
  const [id, at] = editedFrom(job)?.split("/") ?? [];
  const [origin, sent] = await Promise.all([id && jobOf(`${id}/${at}`).catch(() => undefined), sentWith(job)]);
  const past = [...(origin ? [[origin, Number(at)]] : []), [job, index]].map(([job, index]) => ({ job, index, words: nameOf(job, index) }));
  if (sent) return new Editing(frame, viewer, past, sent);
  return void frame.append(el("p", { className: "hint", textContent: t("needsFiles") }));
}

class Editing {
  #parts; // what can be changed of the picture
  #query; // of what the reader wants to see; it is ahead of the picture until that is drawn
  #isAhead = false;
  #open; // the values that can be chosen: {at, base, take, stop}, of the part at this index
  #long; // a timer
  #end = new AbortController();
  #draws = new Newest({
    send: async ({ request, isSketch }, signal) => {
      const response = await drawNow(isSketch ? sketchOf(request) : request, isSketch ? "image/png" : "application/json", signal);
      const answer = isSketch ? URL.createObjectURL(await response.blob()) : await response.json();
      await Object.assign(new Image(), { src: isSketch ? answer : addressOf(answer, 0) }).decode().catch(() => {}); // so that it comes without a flash
      return answer;
    },
    show: (answer, { isSketch, words }) => (isSketch ? this.#see(answer, words) : this.#keep(answer, words)),
    fail: error => (this.show(), complain(this.alarm, error)),
    patience: ({ isSketch }) => (isSketch ? PATIENCE : 0),
  });

  // Shows the picture before in place of this one until the pointer or the key is let go.
  hold = () => this.frame.classList.toggle("held", !this.old.hidden);

  constructor(frame, viewer, past, sent) {
    const [{ job, index }] = past;
    const tag = editedFrom(job) ? job.tag : `edit:${job.id}/${index}`;
    Object.assign(this, { frame, viewer, past, sent, tag, at: past.length - 1, image: frame.querySelector(".large") });
    this.veil = Object.assign(this.image.cloneNode(), { alt: "" }); // over the picture, where the one before is shown in its place
    this.veil.classList.add("veil");
    this.earlier = this.image.cloneNode();
    this.old = el("figure", { className: "old" }, this.earlier, el("figcaption", { textContent: t("before") }));
    this.image.after(this.veil);
    this.image.parentElement.before(this.old);
    const button = (key, action) => el("button", { type: "button", className: "small", textContent: t(key), onclick: action });
    this.tools = [button("undo", () => this.move(-1)), button("editRedo", () => this.move(1)), button("editHold")];
    this.chips = el("div", { className: "tools", role: "group", "aria-label": t("editWhat") });
    this.alarm = el("p", { className: "error", role: "alert", hidden: true });
    this.values = el("div");
    this.state = el("p", { className: "hint", role: "status" });
    this.title = el("h3", { textContent: t("editWhat") }); // until there is a history, in its place
    frame.append(el("div", { className: "tools history" }, this.title, ...this.tools), this.chips, this.alarm, this.values, this.state);
    for (const each of [this.image, this.tools[2]]) each.addEventListener("pointerdown", ({ button }) => button === 0 && this.hold());
    this.image.addEventListener("contextmenu", event => event.pointerType === "touch" && event.preventDefault());
    this.tools[2].addEventListener("keydown", ({ key }) => [" ", "Enter"].includes(key) && this.hold());
    viewer.dialog.addEventListener("keydown", event => this.#onKey(event), this.#end);
    for (const name of ["pointerup", "pointercancel", "keyup", "blur"]) addEventListener(name, () => frame.classList.remove("held"), this.#end);
    this.show();
  }

  #onKey(event) {
    const [key, isCommand] = [event.key.toLowerCase(), event.ctrlKey || event.metaKey];
    if (!this.frame.isConnected || event.altKey) return; // another tab is shown
    if (isCommand && key === "z") this.move(event.shiftKey ? 1 : -1);
    else if (!isCommand && key === "b") this.hold();
    else if (key === "escape" && this.#open) this.chips.children[this.#open.at].focus(), this.close();
    else return;
    event.preventDefault(); // and the dialog stays open
  }

  // Shows the picture of now and what it was drawn with; what is on its way is not awaited any more.
  show() {
    const { job, index, words } = this.past[this.at];
    this.#draws.stop();
    this.#isAhead = false;
    this.#query = queryOf(job, index);
    if (this.sent.fit && job.kind !== "generate") this.#query.set("fit", this.sent.fit);
    this.#parts = partsOf(job, index);
    this.#see(addressOf(job, index), words);
    for (const [at, part] of this.#parts.entries()) this.#chip(at).replaceChildren(el("span", { textContent: part.words }), el("b", { textContent: wordsFor(part, part.value) }));
    while (this.chips.childElementCount > this.#parts.length) this.chips.lastChild.remove();
    const { at, base, take } = this.#open ?? {};
    if (!this.#parts[at]) this.close();
    else if (base === this.#baseOf(at)) take(this.#parts[at].value);
    else this.#choose(at); // what could be chosen is of another picture
  }

  #chip(at) {
    if (this.chips.children[at]) return this.chips.children[at];
    const chip = el("button", { type: "button", className: "small chip", "aria-expanded": "false", onclick: () => (this.#open?.at === at ? this.close() : this.#choose(at)) });
    this.chips.append(chip);
    return chip;
  }

  // Puts a picture into its place, unless it is still the one that is there, with the one before it beside.
  #see(source, words) {
    clearTimeout(this.#long);
    const before = this.past[this.#isAhead ? this.at : this.at - 1];
    if (source) URL.revokeObjectURL(this.image.src), Object.assign(this.image, { src: source, alt: t("pictureAlt", words) }); // a sketch's
    this.image.draggable = !before;
    if (before && before !== this.before) {
      Object.assign(this.earlier, { src: addressOf(before.job, before.index), alt: t("pictureAlt", before.words) });
      this.veil.src = this.earlier.src;
    }
    this.before = before;
    this.old.hidden = !before;
    const held = document.activeElement;
    const usable = [before, this.past[this.at + 1] && !this.#isAhead, before];
    this.title.hidden = usable.some(Boolean);
    this.tools.forEach((button, each) => Object.assign(button, { disabled: !usable[each], hidden: !this.title.hidden }));
    if (held.disabled) [...this.tools, ...this.chips.children].find(({ disabled }) => !disabled)?.focus();
  }

  // Returns a text that is the same for pictures which differ in this part only.
  #baseOf(at) {
    return `${[...this.#parts[at].ask(this.#query, [])].sort()}`;
  }

  #choose(at) {
    this.close();
    const part = this.#parts[at];
    const shown = (part.type === "choice" ? choicesOf : slidersOf)(part, this.#request, {
      choose: (value, seen) => this.#change(part, value, seen),
      move: value => this.#change(part, value, { isSketch: true }),
      fail: error => complain(this.alarm, error),
    });
    this.#open = { at, base: this.#baseOf(at), ...shown };
    this.#chip(at).ariaExpanded = "true";
    this.values.replaceChildren(shown.element);
  }

  close() {
    const open = this.#open;
    this.#open = undefined;
    this.values.replaceChildren();
    Object.assign(this.chips.children[open?.at] ?? {}, { ariaExpanded: "false" });
    open?.stop();
  }

  get #request() {
    return { kind: this.past[this.at].job.kind, files: this.sent.files, query: new URLSearchParams(this.#query) };
  }

  // Asks for a change: a sketch of it, or the picture itself, until which `source` is shown.
  #change(part, value, { isSketch = false, source, words: own = wordsFor(part, value) } = {}) {
    const words = `${part.words}: ${own}`;
    this.#query = part.ask(this.#query, value === undefined ? [] : [value]);
    this.#isAhead = true;
    complain(this.alarm, null);
    this.#see(source, words);
    this.#long = setTimeout(() => (this.state.textContent = t("editLong")), LONG);
    if (!isSketch) this.state.textContent = t("editDrawing", words);
    const request = this.#request;
    request.query.set("tag", this.tag);
    this.#draws.want({ request, isSketch, words });
  }

  #keep(job, words) {
    if (this.sent.files.length) remember(job, this.sent.files, this.sent.fit);
    jobs.put(job);
    this.past = [...this.past.slice(0, this.at + 1), { job, index: 0, words }];
    this.#goTo(this.at + 1);
  }

  // Goes back or forth. Back from what is on its way is where it began.
  move(by) {
    const next = this.#isAhead ? by < 0 && this.past[this.at] : this.past[this.at + by];
    if (next) this.#goTo(this.past.indexOf(next));
  }

  #goTo(at) {
    this.at = at;
    this.show();
    this.state.textContent = t("editNow", this.past[at].words);
    this.viewer.turn(this.past[at]);
  }

  stop() {
    this.close();
    this.#draws.stop();
    this.#end.abort();
    clearTimeout(this.#long);
  }
}

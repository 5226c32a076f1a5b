// A portrait: a photograph is redrawn with much noise, by the conditions of the nearest example, which questions correct.

import { complain, el, openDialog } from "./dom.js";
import { hideForm } from "./drawer.js";
import { form } from "./form.js";
import { reveal } from "./gallery.js";
import { shrunk } from "./inputs.js";
import { drawNow, make } from "./making.js";
import { askConditions, conditionsOf, neverWith } from "./models.js";
import { samplesOf } from "./sheets.js";
import { UNLISTED } from "./store.js";
import { t, word } from "./texts.js";

const STRENGTH = 0.8;
const QUESTIONS = 3;
const COUNT = 4; // pictures

export async function portray(photo) {
  const model = form.elements.model.value;
  const preview = el("img", { src: URL.createObjectURL(photo), alt: photo.name });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const state = el("p", { className: "hint", role: "status", textContent: t("meLooking") });
  const questions = el("div", { className: "questions" });
  const button = el("button", { type: "button", className: "main", textContent: t("drawSome", COUNT), disabled: true });
  const kind = el("div", {}, samplesOf(model, 4, 1), el("p", { className: "hint", textContent: t("meHint", model) }));
  const dialog = openDialog("keys portrait", t("me", model), t("close"), el("h2", { textContent: t("me", model) }), el("div", { className: "pair" }, preview, kind), state, questions, alarm, button);
  const closed = new AbortController();
  dialog.addEventListener("close", () => (closed.abort(), URL.revokeObjectURL(preview.src)));
  const requestOf = async rest => ({ kind: "denoise", query: new URLSearchParams({ model, strength: STRENGTH, ...rest }), files: [["image", await shrunk(photo)]] });
  const draw = async conditions => {
    const request = await requestOf({ n: COUNT });
    askConditions(request.query, { model, conditions });
    const job = await make(request);
    dialog.close();
    hideForm();
    await reveal(job);
  };
  try {
    const looked = await drawNow(await requestOf({ n: 1, steps: 1, tag: UNLISTED }), "application/json", closed.signal);
    const { conditions = {} } = (await looked.json()).params; // a model without examples finds none
    ask(questions, model, conditions);
    state.textContent = t("meRight");
    button.disabled = false;
    button.addEventListener("click", () => {
      button.disabled = true;
      draw(conditions).catch(error => (complain(alarm, error), (button.disabled = false)));
    });
  } catch (error) {
    if (closed.signal.aborted) return;
    state.textContent = "";
    complain(alarm, error);
  }
}

// Offers menus that change the first of the conditions, each a list of one value.
function ask(place, model, conditions) {
  const menus = conditionsOf(model).filter(([, { type }]) => type === "choice").slice(0, QUESTIONS).map(([name, { values }]) => {
    const menu = el("select", { name }, ...(conditions[name] ? [] : [new Option(t("anyClass"), "")]), ...values.map(value => new Option(word(model, name, value), value)));
    menu.value = conditions[name]?.[0] ?? "";
    return menu;
  });
  const take = () => {
    for (const { name, value } of menus) value ? (conditions[name] = [value]) : delete conditions[name];
    const chosen = Object.fromEntries(Object.entries(conditions).map(([name, [value]]) => [name, value]));
    for (const { name, options } of menus) for (const each of options) each.disabled = !each.selected && Boolean(neverWith(model, name, each.value, chosen));
  };
  take();
  place.addEventListener("change", take);
  place.append(...menus.map(menu => el("label", {}, el("span", { textContent: word(model, menu.name) }), menu)));
}

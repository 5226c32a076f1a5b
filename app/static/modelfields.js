// What the form offers and says of the chosen model: its classes, its guidance, and its run.

import { $, el, option } from "./dom.js";
import { classesOf, conditionsOf, models, sidesOf } from "./models.js";
import { number, t } from "./texts.js";

export const randomSeed = () => Math.floor(Math.random() * 2 ** 32);

export function showClasses(form, model) {
  const names = classesOf(model);
  const some = model.label_required ? [] : [option("anyClass", "")];
  const all = names.length < 2 || names.includes("all") ? [] : [option("inTurn", "all")];
  $("class").hidden = !names.length;
  form.elements.label.replaceChildren(...some, ...names.map(name => el("option", { value: name, dataset: { word: "label", value: name, model: model.name } })), ...all);
}

// Returns what the form's menu says for classes by index: all in turn, or else the first only.
export function choiceOf(values, names) {
  const inTurn = values.length > 1 && values.every((value, index) => value === index % names.length);
  return inTurn ? "all" : names[values[0]];
}

export function showGuidance(form, { weaker, conditions = {}, classifier_classes: classes, defaults }) {
  const free = Object.keys(conditions).filter(name => conditions[name].null);
  const { elements } = form;
  $("free").hidden = $("interval").hidden = !weaker && !free.length;
  $("classifier").hidden = !classes;
  $("guidance").hidden = $("free").hidden && !classes;
  $("guides").hidden = Boolean(weaker) || free.length < 2;
  elements.guide.replaceChildren(option("guideAll", ""), ...free.map(name => new Option(name)));
  elements.guidance_scale.dataset.tHint = weaker ? "asModel" : "off";
  elements.guidance_scale.value = elements.classifier_scale.value = "";
  for (const end of ["guidance_low", "guidance_high"]) {
    elements[end].dataset.tHint = defaults[end] === undefined ? "noLimit" : "asModel";
    elements[end].value = "";
  }
}

export function showFacts(form) {
  const { model: { value: name }, plan, sampler, steps } = form.elements;
  const { defaults, plans, rate, reason, channels } = models.get(name) ?? {};
  if (!defaults) return;
  $("me").textContent = t("me", name);
  $("me").hidden = channels !== 3 || !conditionsOf(name).some(([, each]) => each.type === "choice" && each.null);
  const { sampler: usual, steps: count } = (!plan.disabled && plans[plan.value]) || defaults;
  const speed = rate ? t("liveRate", number(rate)) : (reason ?? t("noWorker"));
  $("facts").textContent = t("modelFacts", sidesOf(name).join("×"), sampler.value || usual, steps.value || count, speed);
  const folded = [...form.querySelectorAll("details :is(input:not([type=checkbox]), select):enabled")];
  const isSet = field => field.value && field.value !== (field.options ? field.options[0].value : field.defaultValue);
  const words = folded.filter(isSet).map(field => `${field.labels[0].firstElementChild.textContent} ${field.selectedOptions?.[0].text ?? field.value}`);
  $("chosen").textContent = words.length ? `: ${words.join(", ")}` : "";
}

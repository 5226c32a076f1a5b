// The form: which fields are shown, what it says as a request, and how it is filled in from a request. It outlasts a reload.

import { chosenConditions, conditionField, conditionOf, fillConditions, showConditions } from "./conditions.js";
import { $, debounced, offer, option, takeAny } from "./dom.js";
import { showForm } from "./drawer.js";
import { clearFiles, setFile } from "./inputs.js";
import { choiceOf, randomSeed, showClasses, showFacts, showGuidance } from "./modelfields.js";
import { classesOf, defaultModel, enlargersOf, fromPicture, models } from "./models.js";
import { recall, remember } from "./saved.js";
import { samplesOf } from "./sheets.js";
import { translate } from "./texts.js";

export const form = $("form");
const kindField = $("kind");
const LISTS = ["lambda", "seed", "guide"]; // fields that say several values of a parameter
const lastModels = new Map(); // the one that was chosen last, of those that draw from a picture (true) and of the others
const listed = text => text.split(/[\s,]+/).filter(Boolean);
const field = name => [...form.elements].find(each => each.name === name && !each.matches(":disabled"));

// Shows the fields of the chosen kind of job; all others are disabled, so that they are not sent.
export function showKind() {
  const kind = kindField.value;
  const switches = form.querySelectorAll(`[data-switch="${kind}"]`);
  const chosen = [kind, ...[...switches].map(each => each.value)];
  for (const part of form.querySelectorAll("[data-when]")) part.hidden = part.disabled = !part.dataset.when.split(" ").some(name => chosen.includes(name));
  const enlarge = $("enlarge");
  enlarge.hidden = enlarge.disabled = enlarge.hidden || form.elements.upscale.options.length < 2;
  offerModels(kind === "upscale");
  const betweenSeeds = chosen.includes("seeds");
  $("seeds").hidden = $("seeds").disabled = betweenSeeds;
  const guess = field("mode")?.value === "mmse";
  const several = !betweenSeeds && listed(field("seed")?.value ?? "").length > 1; // the number follows from the seeds
  form.elements.n.disabled = kind === "interpolate" || guess || several;
  form.elements.n.closest("label").hidden = kind === "interpolate"; // it has a number of its own
  form.elements.upscale_steps.disabled = form.elements.upscale_augmentation.disabled = !form.elements.upscale.value;
  $("mixed").hidden = form.elements.noise.disabled = field("mode")?.value === "ddim"; // which inverts both pictures
  $("plans").hidden = (form.elements.plan.disabled = kind === "restore" || guess) || form.elements.plan.options.length < 2; // no plan is for these
  $("stops").disabled = kind !== "interpolate" || form.elements.lambda.value !== "";
  $("strength-shown").textContent = Number(form.elements.strength.value).toFixed(2);
  showFacts(form);
}

// Offers the models that draw from a picture, or those that draw from noise, and chooses the one that was chosen before.
function offerModels(wanted) {
  const field = form.elements.model;
  for (const option of field.options) {
    option.hidden = fromPicture(option.value) !== wanted;
    option.disabled = option.hidden || !models.get(option.value).defaults || models.get(option.value).state === "refused";
  }
  kindField.querySelector("[value=upscale]").hidden = ![...models.keys()].some(fromPicture);
  if (field.value && fromPicture(field.value) === wanted) return void lastModels.set(wanted, field.value);
  const usable = [...field.options].filter(each => !each.disabled).map(each => each.value);
  field.value = usable.find(name => name === lastModels.get(wanted)) ?? usable[0] ?? "";
  showModel();
}

// Offers the models of the server. The chosen one stays while it is served; after it comes the default.
export function showModels() {
  const field = form.elements.model;
  const chosen = models.get(field.value);
  offer(field, ...[...models.keys()].map(name => new Option(name)));
  if (chosen?.defaults) {
    showEnlargers(chosen);
    return showKind();
  }
  field.value = defaultModel;
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

export function showModel() {
  const model = models.get(form.elements.model.value);
  if (!model?.defaults) return;
  $("pick").replaceChildren(samplesOf(model.name, 1, 1));
  form.elements.steps.max = model.num_train_timesteps;
  form.elements.plan.replaceChildren(option("asModel", ""), ...Object.keys(model.plans).map(name => new Option(name)));
  const variances = new Set(["fixed_small", "fixed_large", model.variance]);
  form.elements.variance.replaceChildren(option("asModel", ""), ...[...variances].map(name => new Option(name)));
  showEnlargers(model);
  $("depth").hidden = form.elements.bits.disabled = model.channels === 3;
  showClasses(form, model);
  showGuidance(form, model);
  showConditions(model.name);
  translate(form);
  showKind();
}

function showEnlargers(model) {
  const menu = form.elements.upscale;
  offer(menu, option("nothing", ""), ...enlargersOf(model).map(({ name }) => new Option(name)));
  translate(menu);
}

// Returns what the form asks for: the kind, the query, the files as pairs, and how urgent it is.
export function readForm() {
  const query = new URLSearchParams();
  const files = [];
  for (const [name, value] of new FormData(form)) {
    const condition = conditionOf(name);
    if (value instanceof File) value.size && files.push([condition ?? name, value]);
    else if (condition) continue;
    else if (LISTS.includes(name)) listed(value).forEach(each => query.append(name, each));
    else if (value !== "") query.append(name, value);
  }
  const kind = kindField.value;
  if (kind === "interpolate" && !query.has("lambda")) {
    const last = $("stops").valueAsNumber - 1;
    for (let index = 0; index <= last; index++) query.append("lambda", +(index / last).toFixed(4));
  }
  if (kind === "interpolate" && $("seeds").disabled) {
    query.delete("seed"); // the first and the second, of which either may be left to chance
    for (const { value } of form.querySelectorAll('[data-when="seeds"] input')) query.append("seed", value || randomSeed());
  }
  for (const each of chosenConditions()) query.append("condition", each);
  return { kind, query, files, urgency: $("urgency").value, trace: $("trace").checked };
}

// Fills in the form from an address that names a kind of job; returns whether it does.
export function fillFormFrom(query) {
  const kind = query.get("kind");
  if (![...kindField.options].some(({ value, hidden }) => value === kind && !hidden)) return false;
  query.delete("kind");
  fillForm(kind, query);
  return true;
}

export function chooseKind(kind) {
  kindField.value = kind;
  showKind();
}

// Chooses a model, and a kind of job that it can do.
export function chooseModel(name) {
  if (fromPicture(name) !== (kindField.value === "upscale")) chooseKind(fromPicture(name) ? "upscale" : "generate");
  form.elements.model.value = name;
  form.elements.model.dispatchEvent(new Event("change", { bubbles: true }));
}

// Fills in the form from a request: its kind, its query, and its files if they are known.
export function fillForm(kind, query, files = []) {
  const model = query.get("model");
  for (const input of form.querySelectorAll("input:not([type=checkbox], [type=range], [type=file])")) input.value = input.defaultValue;
  form.querySelectorAll("input[type=checkbox]").forEach(box => (box.checked = false));
  for (const menu of form.querySelectorAll("select[name]:not([name=model], #conditions select)")) menu.selectedIndex = 0;
  clearFiles(form);
  kindField.value = kind;
  if (models.get(model)?.defaults) form.elements.model.value = model;
  showModel();
  const choice = form.querySelector(`fieldset[data-when="${kind}"] [data-switch]`);
  if (kind === "interpolate") choice.value = query.getAll("seed").length > 1 ? "seeds" : "pictures";
  if (kind === "denoise") choice.value = query.has("strength") ? "clean" : query.has("sigma") ? "noisy" : "estimated";
  if (kind === "restore") choice.value = query.get("task");
  if (query.has("upscale")) fillField("upscale", query.getAll("upscale")); // without it, its steps cannot be sent
  showKind();
  for (const name of new Set(query.keys())) fillField(name, query.getAll(name));
  fillConditions(query);
  for (const [name, file] of files) setFile(field(name) ?? conditionField(name), file);
  form.querySelector("details").open = true; // so that all that was filled in is seen
  showKind();
  form.dispatchEvent(new Event("change"));
  showForm();
}

function fillField(name, values) {
  if (name === "condition" || name === "model") return; // `fillForm` has chosen the model, if it is served
  if (name === "label") {
    const names = classesOf(models.get(form.elements.model.value));
    const indices = values.map(each => (names.includes(each) ? names.indexOf(each) : Number(each)));
    form.elements.label.value = values[0] === "all" && !names.includes("all") ? "all" : choiceOf(indices, names);
    return;
  }
  if (name === "seed" && kindField.value === "interpolate" && values.length > 1) {
    return form.querySelectorAll('[data-when="seeds"] input').forEach((input, index) => (input.value = values[index]));
  }
  const input = field(name);
  if (!input) return;
  if (input.type === "checkbox") input.checked = values[0] === "true";
  else {
    const text = values.join(", ");
    if (input.tagName === "SELECT" && ![...input.options].some(each => each.value === text)) input.append(new Option(text));
    if (input.type === "range") takeAny(input);
    input.value = text;
  }
}

// A reload finds the fields in this tab, and the files in the browser's database.
const KEY = "difuso-form";
const FILES = (sessionStorage["difuso-tab"] ??= `${KEY}-${Math.random()}`); // the database is that of all tabs
const PAUSE = 300; // milliseconds without a change
const keptFields = () => [...form.elements].filter(field => field.matches("input, select") && field.type !== "file" && !field.closest("#conditions"));
const fileInputs = () => [...form.querySelectorAll("input.dressed")];
const isChecked = field => field.type === "checkbox";

function keep() {
  const values = keptFields().map(field => (isChecked(field) ? field.checked : field.value));
  sessionStorage.setItem(KEY, JSON.stringify({ values, conditions: chosenConditions() }));
}

const keepFiles = () => remember({ id: FILES }, fileInputs().map(input => [input.name, input.files[0] ?? null]));

export function startDraft() {
  const { values = [], conditions } = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
  if (values.length === keptFields().length) {
    const fill = () => keptFields().forEach((field, index) => (field[isChecked(field) ? "checked" : "value"] = values[index]));
    fill();
    if (!form.elements.model.value) form.elements.model.value = form.elements.model.options[0]?.value; // it is no longer served
    showModel(); // which offers the choices of the model
    fill();
    fillConditions(new URLSearchParams(conditions.map(each => ["condition", each])));
    showKind();
    recall(FILES).then(sent => fileInputs().forEach((input, index) => sent?.files[index]?.[1] && setFile(input, sent.files[index][1])));
  }
  const soon = debounced(PAUSE, keep);
  for (const event of ["input", "change"]) form.addEventListener(event, soon);
  form.addEventListener("picture", debounced(PAUSE, keepFiles));
  addEventListener("pagehide", keep);
}

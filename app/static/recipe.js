// What is shown of a picture that was dropped or pasted: one of ours says how it was made, and is made again.

import { useFile } from "./actions.js";
import { fromNoise, settingsOf, taskQuery, termsOf } from "./describe.js";
import { $, complain, el, openDialog } from "./dom.js";
import { fillForm, form } from "./form.js";
import { reveal } from "./gallery.js";
import { placesOf } from "./inputs.js";
import { settings } from "./kinds.js";
import { make } from "./making.js";
import { askConditions, filesOf, labelFor, models } from "./models.js";
import { notify } from "./notice.js";
import { go } from "./routes.js";
import { recallByPictures } from "./saved.js";
import { readRecipe } from "./sheets.js";
import { t } from "./texts.js";

// What no request asks for.
const OF_PICTURE = ["version", "upscaler_version", "precision", "upscaler_precision", "timesteps", "pictures"];

// Whether a value can be asked for and shown: a text, a number, a list of these, or a list of such lists.
const isPlain = (value, lists = 2) => (Array.isArray(value) ? lists > 0 && value.every(each => isPlain(each, lists - 1)) : Object(value) !== value);
const isTable = value => Object(value) === value && Object.values(value).every(each => isPlain(each));

// Whether a recipe is one of ours. Anybody can write one into a PNG, and its kind becomes part of an address.
function isOurs({ kind = "generate", model, pictures = [], conditions = {}, upscale, ...rest }) {
  if (typeof model !== "string" || ![...$("kind").options].some(option => option.value === kind)) return false;
  if (rest.images) return true; // a sheet's, which is only named
  const lists = [pictures, ...Object.values(conditions ?? {})];
  return lists.every(Array.isArray) && isTable(conditions) && isTable(upscale ?? {}) && isTable({ pictures, ...rest });
}

function requestOf(recipe) {
  const { kind = "generate", model, seeds, conditions, ...rest } = recipe;
  const shared = ["n", "seed", "label", "bits", "guide", ...settings.keys()];
  const own = Object.fromEntries(Object.entries({ ...rest, seeds }).filter(([name]) => ![...shared, ...OF_PICTURE].includes(name)));
  const query = new URLSearchParams({ model: recipe.model });
  const sampling = { ...Object.fromEntries(shared.map(name => [name, recipe[name]])), label: labelFor(model, recipe.label) };
  for (const [name, value] of Object.entries({ ...sampling, seed: seeds ?? rest.seed, ...taskQuery({ kind, task: own, model }) })) {
    for (const each of [value].flat()) if (each !== undefined && each !== null) query.append(name, each);
  }
  askConditions(query, { model, conditions });
  return { kind, query };
}

export async function show(file) {
  if (!["image/png", "image/jpeg"].includes(file.type)) return void notify(t("notPicture"), { error: true });
  const found = await readRecipe(file).catch(() => undefined);
  const recipe = found && isOurs(found) ? found : undefined;
  const image = el("img", { src: URL.createObjectURL(file), alt: file.name, className: "dropped" });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const button = (text, action, className = "small") =>
    el("button", { type: "button", className, textContent: text, onclick: () => Promise.resolve().then(action).then(() => dialog.close(), error => complain(alarm, error)) });
  const places = placesOf(form).map(place => button(place.text, () => useFile(place, file)));
  const about = recipe && !recipe.images ? await recipeOf(recipe, button) : [el("p", { className: "hint", textContent: t(recipe ? "sheetRecipe" : "noRecipe") })];
  const title = el("h2", { textContent: t(recipe ? "droppedRecipe" : "dropped") });
  const side = el("div", { className: "side" }, title, ...about, alarm, el("h3", { textContent: t("useFor") }), el("div", { className: "tools" }, ...places));
  const dialog = openDialog("recipe", title.textContent, t("close"), image, side);
  dialog.addEventListener("close", () => URL.revokeObjectURL(image.src));
}

async function recipeOf(recipe, button) {
  const { kind, query } = requestOf(recipe);
  const facts = [[t("model"), recipe.model], ...settingsOf(recipe), [t("seed"), recipe.seed]];
  const model = models.get(recipe.model);
  if ((recipe.label ?? null) !== null) facts.push([t("class"), model?.classes?.[recipe.label] ?? recipe.label]);
  const wasTold = filesOf(recipe.model).some(name => name in (recipe.conditions ?? {})); // by pictures, which it names by none
  const request = recipe.pictures?.length ? await recallByPictures(recipe.pictures) : wasTold ? undefined : { files: [] };
  const notes = [];
  if (!model?.defaults) notes.push(t("noModel", recipe.model));
  else if (model.version !== recipe.version) {
    if (model.versions.some(({ version, workers }) => version === recipe.version && workers)) query.set("version", recipe.version);
    else notes.push(t("otherVersion"));
  }
  if (!request) notes.push(t(fromNoise(recipe) ? "noiseSent" : "needsFiles"));
  else if (request.fit) query.set("fit", request.fit);
  const again = button(t("makeAgain"), () => make({ kind, query, files: request.files }).then(reveal), "main");
  again.disabled = !model?.defaults || !request;
  const fill = async () => {
    if (document.body.matches(".alone")) await go("#gallery"); // a view without the form
    fillForm(kind, query, request?.files);
  };
  const use = button(t("useSettings"), fill, "");
  use.disabled = !model?.defaults;
  return [el("dl", {}, ...termsOf(facts)), ...notes.map(text => el("p", { className: "hint", textContent: text })), el("div", { className: "tools" }, again, use)];
}

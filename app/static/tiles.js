// The models as tiles, in an empty gallery and in the dialog that chooses one: what each draws, and a button that draws it.

import { countOf } from "./describe.js";
import { el, openDialog } from "./dom.js";
import { hideForm } from "./drawer.js";
import { chooseModel, form } from "./form.js";
import { reveal } from "./gallery.js";
import { make } from "./making.js";
import { conditionsOf, enlargersOf, fromPicture, models, sidesOf } from "./models.js";
import { notify } from "./notice.js";
import { samplesOf } from "./sheets.js";
import { number, t } from "./texts.js";
import { premieres } from "./tile.js";

const COUNT = 4; // pictures of one press
const [COLUMNS, ROWS] = [4, 2]; // of a sheet that are seen
let isFirst = true; // whether nothing was drawn yet by one press
const isUsable = model => model.defaults && model.state !== "refused";
const needsNothing = model => !model.label_required && conditionsOf(model.name).every(([, each]) => each.null);

// The request of one press: four pictures by the model's own settings, enlarged where a model enlarges them.
function requestOf(model) {
  const first = fromPicture(model.name) ? [...models.values()].find(each => isUsable(each) && enlargersOf(each).includes(model)) : model;
  if (!first || conditionsOf(first.name).some(([, each]) => !each.null)) return undefined; // only the form can ask for what is needed
  const query = new URLSearchParams({ model: first.name, n: COUNT });
  const enlarger = first === model ? enlargersOf(model).find(each => isUsable(each) && needsNothing(each)) : model;
  if (enlarger) query.set("upscale", enlarger.name);
  if (first.label_required) query.set("label", "all");
  return { kind: "generate", query };
}

async function draw(button, request) {
  button.disabled = true; // a second press on the way would make the same twice
  try {
    const job = await make(request);
    if (isFirst) for (let index = 0; index < countOf(job); index++) premieres.add(`${job.id}/${index}`);
    isFirst = false;
    chooseModel(request.query.get("model"));
    form.elements.upscale.value = request.query.get("upscale") ?? "";
    form.dispatchEvent(new Event("change")); // what is made next is as large
    hideForm();
    await reveal(job);
  } catch (error) {
    notify(error.message, { error: true });
  }
  button.disabled = false;
}

// Returns a button that draws by a model at once; undefined where only the form can ask for what it needs.
export function drawButton(model, words = t("drawSome", COUNT), before = undefined) {
  const request = requestOf(model);
  return request && el("button", { type: "button", className: "main draw", textContent: words, "aria-label": `${words}, ${model.name}`, onclick: ({ currentTarget }) => (before?.(), draw(currentTarget, request)) });
}

// Returns the tiles of models, but of unusable ones. `choose` is what happens when one is chosen; without it they only draw.
export function tilesOf(choose, wanted = [...models.values()]) {
  const tiles = wanted.filter(isUsable).map(model => {
    const { name, about, parameters } = model;
    const size = t("modelSize", sidesOf(name).join("×"), number(parameters / 1e6, 1));
    const drawing = drawButton(model, undefined, choose);
    const tools = el("div", { className: "tools" }, drawing);
    if (choose && (drawing || fromPicture(name))) {
      const chosen = name === form.elements.model.value;
      const button = el("button", { type: "button", textContent: t("choose_model"), "aria-label": `${t("choose_model")}, ${name}`, "aria-pressed": String(chosen), onclick: () => choose(name) });
      tools.append(button);
    }
    const words = el("div", { className: "tile-words" }, el("h3", { textContent: name }), about && el("p", { textContent: about }),
      el("p", { className: "hint", textContent: size }));
    return el("li", { className: "tile", dataset: { model: name } }, samplesOf(name, COLUMNS, ROWS), words, tools);
  });
  return el("ul", { className: "tiles" }, ...tiles);
}

export function openPicker() {
  const choose = name => {
    dialog.close();
    if (name) chooseModel(name);
  };
  const dialog = openDialog("picker", t("pickModel"), t("close"), el("h2", { textContent: t("pickModel") }), tilesOf(choose));
}

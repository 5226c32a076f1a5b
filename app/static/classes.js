// The classes of a model in the form.

import { $, el, option } from "./dom.js";
import { classesOf } from "./models.js";

export const randomSeed = () => Math.floor(Math.random() * 2 ** 32);

export function showClasses(form, model) {
  const names = classesOf(model);
  const some = model.label_required ? [] : [option("anyClass", "")];
  const all = names.length < 2 || names.includes("all") ? [] : [option("inTurn", "all")];
  $("class").hidden = !names.length;
  form.elements.label.replaceChildren(...some, ...names.map(name => el("option", { value: name, dataset: { word: "label", value: name, model: model.name } })), ...all);
}

// Returns what the form's menu says for classes, which come by index. Several are all of them in turn; of any
// others the form can say the first only.
export function choiceOf(values, names) {
  const inTurn = values.length > 1 && values.every((value, index) => value === index % names.length);
  return inTurn ? "all" : names[values[0]];
}

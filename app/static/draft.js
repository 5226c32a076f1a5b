// The form outlasts a reload: its fields are kept in this tab, and its files in the browser's database.

import { chosenConditions, fillConditions } from "./conditions.js";
import { debounced } from "./dom.js";
import { form, showKind, showModel } from "./form.js";
import { setFile } from "./inputs.js";
import { recall, remember } from "./saved.js";

const KEY = "difuso-form";
const FILES = (sessionStorage["difuso-tab"] ??= `${KEY}-${Math.random()}`); // the database is that of all tabs
const PAUSE = 300; // milliseconds without a change
const fields = () => [...form.elements].filter(field => field.matches("input, select") && field.type !== "file" && !field.closest("#conditions"));
const files = () => [...form.querySelectorAll("input.dressed")];
const isChecked = field => field.type === "checkbox";

function keep() {
  const values = fields().map(field => (isChecked(field) ? field.checked : field.value));
  sessionStorage.setItem(KEY, JSON.stringify({ values, conditions: chosenConditions() }));
}

const keepFiles = async () => remember({ id: FILES }, files().map(input => [input.name, input.files[0] ?? null]));

export function startDraft() {
  const { values = [], conditions } = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
  if (values.length === fields().length) {
    const fill = () => fields().forEach((field, index) => (field[isChecked(field) ? "checked" : "value"] = values[index]));
    fill();
    if (!form.elements.model.value) form.elements.model.value = form.elements.model.options[0]?.value; // it is no longer served
    showModel(); // which offers the choices of the model
    fill();
    fillConditions(new URLSearchParams(conditions.map(each => ["condition", each])));
    showKind();
    recall(FILES).then(sent => files().forEach((input, index) => sent?.files[index]?.[1] && setFile(input, sent.files[index][1])));
  }
  const soon = debounced(PAUSE, keep);
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("picture", debounced(PAUSE, keepFiles));
  addEventListener("pagehide", keep);
}

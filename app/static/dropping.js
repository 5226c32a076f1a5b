// Listens for pictures that are dropped or pasted anywhere; what is shown of them is loaded then.

import { loaded } from "./api.js";
import { form } from "./form.js";
import { emptyInput, fileOf, setFile } from "./inputs.js";
import { notify } from "./notice.js";

const show = async file => (await loaded("./recipe.js")).show(file);

export function startDropping() {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const over = by => document.body.classList.toggle("dragging", (depth += by) > 0);
  const ours = event => [...(event.dataTransfer?.types ?? [])].some(type => type === "Files" || type.includes("difuso"));
  document.addEventListener("dragenter", event => ours(event) && over(1));
  document.addEventListener("dragleave", event => ours(event) && over(-1));
  document.addEventListener("dragover", event => ours(event) && event.preventDefault());
  document.addEventListener("drop", () => over(-depth), true);
  const alarm = error => void notify(error.message, { error: true });
  document.addEventListener("drop", async event => {
    if (!ours(event)) return; // but text
    event.preventDefault();
    const file = await fileOf(event.dataTransfer).catch(alarm);
    if (file) show(file).catch(alarm);
  });
  document.addEventListener("paste", async event => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    const file = await fileOf(event.clipboardData).catch(alarm);
    if (!file) return;
    const input = emptyInput(form);
    if (input && form.checkVisibility() && !document.querySelector("dialog[open]:not(.sheet)")) setFile(input, file);
    else show(file).catch(alarm);
  });
}

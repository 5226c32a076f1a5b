// The samples of a model: the pictures of its sheet, class by class. `difuso train` draws them from the seeds 0 … 63 with the
// classes in turn, so each can be drawn again.

import { request } from "../api.js";
import { el } from "../dom.js";
import { chooseModel } from "../form.js";
import { reveal } from "../gallery.js";
import { make } from "../making.js";
import { fromPicture } from "../models.js";
import { notify } from "../notice.js";
import { cellsOf } from "../sheets.js";
import { t } from "../texts.js";

const COUNT = 64;

// Resolves to the elements; a sheet of another kind is shown as it is.
export async function samplesOf({ name, classes }, close) {
  const cells = fromPicture(name) ? [] : await cellsOf(name, COUNT);
  if (cells.length < COUNT) return figureOf(name, "sheet", t("samples", name));
  const labelOf = seed => classes && seed % classes.length;
  const buttons = cells.map((canvas, seed) => {
    const words = [`${t("seed")} ${seed}`, classes?.[labelOf(seed)]].filter(Boolean).join(", ");
    const button = el("button", { type: "button", className: "sample", title: words, "aria-label": words }, canvas);
    button.addEventListener("click", () => (close(), draw(name, seed, labelOf(seed))));
    return button;
  });
  const rows = classes
    ? classes.flatMap((each, label) => [el("h4", { textContent: each }), row(buttons.filter((_, seed) => labelOf(seed) === label))])
    : [row(buttons)];
  return [el("p", { className: "hint", textContent: t("cardSamplesHint") }), el("div", { className: classes ? "by-class" : "" }, ...rows)];
}

// Resolves to a figure of the model's folder.
export async function figureOf(name, figure, alt) {
  const blob = await (await request(`/models/${name}/figures/${figure}`)).blob();
  const image = el("img", { src: URL.createObjectURL(blob), alt });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return [el("figure", {}, image)];
}

const row = buttons => el("div", { className: "sample-row" }, ...buttons);

async function draw(name, seed, label) {
  try {
    const job = await make({ kind: "generate", query: new URLSearchParams({ model: name, seed, ...(label !== undefined && { label }) }) });
    chooseModel(name);
    await reveal(job);
  } catch (error) {
    notify(error.message, { error: true });
  }
}

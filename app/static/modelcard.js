// What is known of a model: its samples, its facts, and its own description with figures, training and licence.

import { request } from "./api.js";
import { el, openDialog } from "./dom.js";
import { markdown } from "./markdown.js";
import { models, sidesOf } from "./models.js";
import { number, t } from "./texts.js";

export async function openModelCard(name) {
  const model = models.get(name);
  const facts = {
    size: [...sidesOf(name), model.channels].join("×"),
    parameters: number(model.parameters),
    predicts: model.prediction,
    class: model.classes?.join(", "),
    sampler: `${model.defaults.sampler}, ${model.defaults.steps}`,
    numberFormat: model.slow_format ? t("slowFormat", model.precision) : model.precision,
    weightsHash: model.sha256?.slice(0, 16),
  };
  const shown = Object.entries(facts).filter(([, value]) => value);
  const list = el("dl", {}, ...shown.flatMap(([key, value]) => [el("dt", { textContent: t(key) }), el("dd", { textContent: value })]));
  const text = el("div", { className: "description" });
  const sheet = el("figure", { hidden: true });
  const curve = el("figure", { hidden: true });
  openDialog("model-card", name, t("close"), el("h2", { textContent: name }), sheet, list, text, curve);
  const has = document => model.documents?.includes(document);
  await Promise.all([
    describe(name, text, has("card")),
    has("sheet") && picture(name, "sheet", t("samples", name), sheet),
    has("losses") && picture(name, "losses", t("losses", name), curve),
  ]);
}

async function describe(name, element, isThere) {
  const text = isThere ? await (await request(`/models/${name}/card`)).text() : "";
  const blocks = markdown(text);
  if (blocks[0]?.textContent === name) blocks.shift();
  if (!blocks.length) blocks.push(el("p", { className: "hint", textContent: t("cardMissing") }));
  for (const block of blocks) element.append(block); // all at once would be too many arguments of one call
}

async function picture(name, figure, alt, element) {
  const blob = await (await request(`/models/${name}/figures/${figure}`)).blob();
  const image = el("img", { src: URL.createObjectURL(blob), alt });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  element.append(image);
  element.hidden = false;
}

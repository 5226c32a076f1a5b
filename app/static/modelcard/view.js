// What is known of a model, as a story: its samples, how good it is and how long that takes, how it was trained, and its
// own description.

import { answered, request } from "../api.js";
import { el, openDialog } from "../dom.js";
import { termsOf } from "../facts.js";
import { markdown } from "../markdown.js";
import { models, sidesOf } from "../models.js";
import { addPart, number, t } from "../texts.js";
import { curvesOf } from "./curves.js";
import { qualityOf } from "./quality.js";
import { samplesOf } from "./samples.js";

const USUAL = "http://127.0.0.1:8000"; // where examples of cards expect the server

export async function openModelCard(name) {
  await answered(addPart("modelcard"));
  const model = models.get(name);
  const facts = {
    size: [...sidesOf(name), model.channels].join("×"),
    parameters: number(model.parameters),
    predicts: model.prediction,
    class: model.classes?.join(", "),
    sampler: `${model.defaults.sampler}, ${model.defaults.steps}`,
    cardInsteadOf: model.instead_of,
    numberFormat: model.precision,
    version: model.version.slice(0, 12),
  };
  const shown = Object.entries(facts).filter(([, value]) => value);
  const list = el("dl", {}, ...termsOf(shown.map(([key, value]) => [t(key), value])));
  const text = el("div", { className: "description" });
  const parts = Object.fromEntries(["cardSamples", "cardQuality", "cardTraining"].map(key => [key, chapter(key)]));
  const dialog = openDialog("model-card", name, t("close"), el("h2", { textContent: name }), parts.cardSamples, list, parts.cardQuality,
    parts.cardTraining, text);
  const has = document => model.documents?.includes(document);
  const close = () => dialog.close();
  await Promise.all([
    describe(name, text, has("card")).then(() => fill(parts.cardQuality, qualityOf(model, [...text.querySelectorAll("table")], close))),
    has("sheet") && fill(parts.cardSamples, samplesOf(model, close)),
    has("metrics") && fill(parts.cardTraining, curvesOf(name)),
  ]);
}

const chapter = key => el("section", { className: key, hidden: true }, el("h3", { textContent: t(key) }));

// Shows a chapter once there is something in it.
async function fill(part, content) {
  const found = (await content) ?? [];
  part.append(...found);
  part.hidden = !found.length;
}

async function describe(name, element, isThere) {
  const text = isThere ? await (await request(`/models/${name}/card`)).text() : "";
  const blocks = markdown(text.replaceAll(USUAL, location.origin));
  if (blocks[0]?.textContent === name) blocks.shift();
  if (!blocks.length) blocks.push(el("p", { className: "hint", textContent: t("cardMissing") }));
  for (const block of blocks) element.append(block); // all at once would be too many arguments of one call
}

// What is known of pictures before they are sent and after: how many, the classes that they become, and what is left out.

import { request } from "../api.js";
import { el } from "../dom.js";
import { translated } from "../problems.js";
import { number, t } from "../texts.js";

export const [LEAST, FEW] = [50, 500]; // jobs/trainings/checking.py
const [MOST_CLASSES, IN_EACH] = [200, 5]; // training/own_pictures.py
const [NAMED, SHOWN] = [12, 100];

// Returns what a dataset of the server holds, in the form of `read`.
export const heldBy = ({ name, summary }) => ({ ...summary, others: summary.left_out, left: summary.left_out_count, twice: 0, dataset: name });

// Resolves to some of the pictures of a dataset, as one picture.
export async function sheetOf({ name, owner }) {
  const blob = await (await request(`/datasets/${name}/thumbnails.png${owner ? `?owner=${owner}` : ""}`)).blob();
  const image = el("img", { src: URL.createObjectURL(blob), alt: t("trainSome", name), className: "thumbnails" });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  return image;
}

export function wordsOf({ count, classes, others, left = others.length, twice }) {
  const names = Object.entries(classes).map(([name, many]) => `${name} ${number(many)}`);
  const inFolders = Object.values(classes).reduce((sum, many) => sum + many, 0);
  const isMany = names.length > Math.min(MOST_CLASSES, Math.floor(count / IN_EACH));
  const of = names.slice(0, NAMED).join(", ") + (names.length > NAMED ? ` … (${number(names.length)})` : "");
  const learned = count < LEAST ? "" : names.length < 2 ? t("trainNoClasses") : inFolders < count ? t("trainOutside") : isMany ? t("trainManyClasses", number(names.length)) : t("trainClasses", of);
  const warning = count < LEAST ? t("trainTooFew", LEAST) : count < FEW && t("trainFew", FEW);
  const rows = others.slice(0, SHOWN).map(({ name, reason }) => el("li", {}, el("code", { textContent: name }), ` ${translated(reason)}`));
  return [el("p", {}, el("strong", { textContent: t("pictures", number(count)) }), ` ${[learned, twice > 0 && t("trainTwice", twice)].filter(Boolean).join(" ")}`),
    warning && el("p", { className: count < LEAST ? "error" : "warning", role: count < LEAST ? "alert" : undefined, textContent: warning }),
    left > 0 && el("details", {}, el("summary", { textContent: t("trainLeftOut", number(left)) }), el("ul", {}, ...rows))].filter(Boolean);
}

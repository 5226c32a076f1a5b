// Trainings as rows of a list, the button that deletes for good, and what is known of pictures before they are sent and after.

import { answered, ask, request } from "../api.js";
import { el, once } from "../dom.js";
import { translated } from "../problems.js";
import { addPart, duration, number, t } from "../texts.js";

export const OVER = ["succeeded", "stopped", "failed"];

export function placeOf({ state, progress: { step, steps, seconds_left: seconds } }) {
  const [least, most] = (seconds ?? []).map(each => duration(Math.max(1, each)));
  const left = state === "running" && step < steps && least && (least === most ? t("about", least) : t("trainLeft", least, most));
  return [state === "running" && !steps ? t("trainPreparing") : t(`train_state_${state}`), steps > 0 && t("trainSteps", number(step), number(steps)), left].filter(Boolean).join(" · ");
}

export function rowOf(training) {
  const { id, name, progress: { step, steps } } = training;
  const bar = el("progress", { max: steps || 1, value: step, ariaLabel: name, hidden: OVER.includes(training.state) });
  return el("li", {}, el("a", { href: `#train=${id}`, textContent: name, className: "title" }), el("span", { className: "hint", textContent: placeOf(training) }), bar);
}

export async function showUnfinished(list) {
  const [{ trainings }] = await Promise.all([ask("GET", "/trainings"), answered(addPart("train"))]);
  list.replaceChildren(...trainings.filter(({ state }) => !OVER.includes(state)).map(rowOf));
}

// Returns a button that asks again before it acts; whoever turns to something else is not asked any more.
export function deleteButton(name, action) {
  const button = el("button", { type: "button", className: "small", textContent: t("delete"), "aria-label": `${t("delete")}, ${name}` });
  const say = isAsked => ([button.textContent, button.ariaLabel, button.ariaPressed] = isAsked ? [t("trainSure"), null, "true"] : [t("delete"), `${t("delete")}, ${name}`, null]);
  button.addEventListener("click", event => once(event, () => (button.ariaPressed ? action() : say(true))));
  button.addEventListener("blur", () => say(false));
  return button;
}

export const [LEAST, FEW] = [50, 500]; // jobs/trainings/checking.py
const [MOST_CLASSES, IN_EACH] = [200, 5]; // training/own_pictures.py
const [NAMED, SHOWN] = [12, 100];

// Returns what a dataset of the server holds, in the form of `read`.
export const heldBy = ({ name, summary }) => ({ ...summary, others: summary.left_out, left: summary.left_out_count, twice: 0, dataset: name });

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

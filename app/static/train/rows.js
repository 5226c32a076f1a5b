// Trainings as rows of a list, the button that deletes for good, and what is known of pictures before they are sent and after.

import { answered, ask, request } from "../api.js";
import { el, once } from "../dom.js";
import { translated } from "../problems.js";
import { addPart, duration, known, number, t } from "../texts.js";

export const OVER = ["succeeded", "stopped", "failed"];
const HOLDING = ["running", "pausing", "stopping"]; // a trainer

// Says how far a training is; of one that is queued, which of `others` it waits for.
export function placeOf({ state, progress: { step, steps }, progress, started_at: from, ended_at: until }, others = []) {
  const ahead = state === "queued" && others.find(each => HOLDING.includes(each.state));
  const words = ahead ? t("trainWaits", ahead.name) : state === "running" && !steps ? t("trainPreparing") : (known(`train_state_${state}`) ?? t(state)); // or as of jobs
  const took = ["succeeded", "stopped"].includes(state) && from && until && t("trainTook", duration(until - from));
  return [words, steps > 0 && t("trainSteps", number(step), number(steps)), ahead ? leftOf(ahead.progress) : state === "running" && leftOf(progress), took].filter(Boolean).join(" · ");
}

// A range of which one end is more than twice the other is one number in the middle.
function leftOf({ step, steps, seconds_left: seconds }) {
  if (step >= steps || !seconds) return "";
  const [least, most] = seconds.map(each => Math.max(1, each));
  const ends = (most > 2 * least ? [Math.sqrt(least * most)] : [least, most]).map(duration);
  return t("trainLeft", ...new Set(ends));
}

// Returns the row of a training, or brings it up to date.
export function rowOf(training, others, row = el("li", {}, el("a", { href: `#train=${training.id}`, textContent: training.name, className: "title" }), el("span", { className: "hint" }), el("progress"))) {
  const { name, state, progress: { step, steps } } = training;
  row.children[1].textContent = placeOf(training, others);
  Object.assign(row.children[2], { max: steps || 1, value: step, ariaLabel: name, hidden: OVER.includes(state) });
  return row;
}

export async function showUnfinished(place) {
  const [{ trainings }] = await Promise.all([ask("GET", "/trainings"), answered(addPart("train"))]);
  const rows = trainings.filter(({ state }) => !OVER.includes(state)).map(each => rowOf(each, trainings));
  place.replaceChildren(...(rows.length ? [el("h2", { textContent: t("trainTrainings") }), el("ol", {}, ...rows)] : []));
}

// Returns a button that asks again before it acts; whoever turns to something else, or presses Escape, is not asked any more.
export function deleteButton(name, action, question = t("trainSure")) {
  const button = el("button", { type: "button", className: "small", textContent: t("delete"), "aria-label": `${t("delete")}, ${name}` });
  const say = isAsked => ([button.textContent, button.ariaLabel, button.ariaPressed] = isAsked ? [question, null, "true"] : [t("delete"), `${t("delete")}, ${name}`, null]);
  button.addEventListener("click", event => once(event, () => (button.ariaPressed ? action() : say(true))));
  for (const kind of ["blur", "keydown"]) button.addEventListener(kind, ({ key = "Escape" }) => key === "Escape" && say(false));
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

export function wordsOf({ count, classes, others, left = others.length, twice, dataset }) {
  const names = Object.entries(classes).map(([name, many]) => `${name} ${number(many)}`);
  const inFolders = Object.values(classes).reduce((sum, many) => sum + many, 0);
  const isMany = names.length > Math.min(MOST_CLASSES, Math.floor(count / IN_EACH));
  const of = names.slice(0, NAMED).join(", ") + (names.length > NAMED ? ` … (${number(names.length)})` : "");
  const learned = count < LEAST ? "" : names.length < 2 ? t("trainNoClasses") : inFolders < count ? t("trainOutside") : isMany ? t("trainManyClasses", number(names.length)) : t("trainClasses", of);
  const warning = count < LEAST ? (count > 0 || !left) && t("trainTooFew", LEAST) : count < FEW && t("trainFew", FEW); // the reasons say enough where nothing is left
  const pictures = t("pictures", number(count)); // the server counts what can be read
  const rows = others.slice(0, SHOWN).map(({ name, reason }) => el("li", {}, el("code", { textContent: name }), ` ${translated(reason)}`));
  return [el("p", {}, el("strong", { textContent: dataset || count < LEAST ? pictures : t("trainAbout", pictures) }), ` ${[learned, twice > 0 && t("trainTwice", twice)].filter(Boolean).join(" ")}`),
    warning && el("p", { className: count < LEAST ? "error" : "warning", role: count < LEAST ? "alert" : undefined, textContent: warning }),
    left > 0 && el("details", { open: !count }, el("summary", { textContent: t("trainLeftOut", number(left)) }), el("ul", {}, ...rows))].filter(Boolean);
}

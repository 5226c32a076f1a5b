// Trainings as rows of a list, and the button that deletes for good.

import { answered, ask } from "../api.js";
import { el, once } from "../dom.js";
import { addPart, duration, number, t } from "../texts.js";

export const OVER = ["succeeded", "stopped", "failed"];

// Says how far a training is, with the range of the time that is left.
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

// Fills a list with the trainings that have not ended.
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

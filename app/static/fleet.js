// What operators see below the queue: the workers, which they can cordon, and the queues by model, which they can pause.

import { ask, request } from "./api.js";
import { attempt, complain, el, pause } from "./dom.js";
import { models } from "./models.js";
import { language, number, t } from "./texts.js";

const LOOK = 2500; // milliseconds
const buttons = new Map(); // by what they hold back; they stay while all around them is drawn anew
let told = ""; // what is shown

// Fills a place while its popover is open; `allowed` hears that it may. Whoever is no operator gets the problem `not-allowed`.
export async function showFleet(place, allowed) {
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  for (told = ""; place.closest(":popover-open"); await pause(LOOK)) {
    try {
      show(place, alarm, await ask("GET", "/fleet"));
      allowed();
    } catch (error) {
      if (error.type === "not-allowed") throw error;
      complain(alarm, error); // the next look may succeed
    }
  }
}

function show(place, alarm, { workers, queues, paused }) {
  const shown = JSON.stringify([language, workers.map(({ silent_seconds: _, ...each }) => each), queues, paused, [...models.keys()]]);
  if (shown === told) return;
  told = shown;
  const turn = (held, name, isHeld) => () => attempt(error => complain(alarm, error), async () => {
    await request(`/fleet/${held}/${encodeURIComponent(name)}`, { method: isHeld ? "DELETE" : "PUT" });
    show(place, alarm, await ask("GET", "/fleet"));
  });
  const button = (held, name, isHeld, words) => {
    const key = `${held}/${name}`;
    if (!buttons.has(key)) buttons.set(key, el("button", { type: "button", className: "small", dataset: { held: key } }));
    return Object.assign(buttons.get(key), { textContent: words, ariaLabel: `${words}, ${name}`, onclick: turn(held, name, isHeld) });
  };
  const workerRow = ({ name, slots, cordoned, models: all }) =>
    [name, cordoned ? t("cordoned") : "", number(slots), all.map(wordsOf).join(", "), button("cordoned", name, cordoned, t(cordoned ? "uncordon" : "cordon"))];
  const names = new Set([...queues.map(({ model }) => model), ...paused, ...models.keys()]);
  const queueRow = name => {
    const [isPaused, mine] = [paused.includes(name), queues.filter(({ model }) => model === name)];
    const counts = ["queued", "running"].map(state => number(mine.reduce((sum, each) => sum + each[state], 0)));
    return [name, isPaused ? t("paused") : "", ...counts, button("paused", name, isPaused, t(isPaused ? "resume" : "pause"))];
  };
  const held = document.activeElement?.dataset.held;
  place.replaceChildren(alarm, tableOf(t("workers"), [t("worker"), t("state"), t("slots"), t("model"), ""], workers.map(workerRow)),
    tableOf(t("queues"), [t("model"), t("state"), t("queued"), t("running"), ""], [...names].map(queueRow)));
  if (held) place.querySelector(`[data-held="${CSS.escape(held)}"]`)?.focus();
}

const wordsOf = ({ name, version = "", rate, reason }) => [`${name} ${version.slice(0, 7)}`.trim(), reason ?? (rate && t("liveRate", number(rate)))].filter(Boolean).join(" · ");

function tableOf(caption, heads, rows) {
  const rowOf = ([first, ...rest]) => el("tr", {}, el("th", { scope: "row", textContent: first }), ...rest.map((each, at) => el("td", { dataset: { head: heads[at + 1] } }, each)));
  const head = el("tr", {}, ...heads.map(textContent => el(textContent ? "th" : "td", { textContent, scope: textContent ? "col" : undefined })));
  return el("table", {}, el("caption", { textContent: caption }), el("thead", {}, head), el("tbody", {}, ...rows.map(rowOf)));
}

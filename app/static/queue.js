// The queue: every unfinished job with its place, the time that is left, its urgency, and a button to cancel it.

import { ask, loaded, request } from "./api.js";
import { stepsOf, titleOf } from "./describe.js";
import { $, arrange, el } from "./dom.js";
import { jobs } from "./store.js";
import { duration, known, t } from "./texts.js";

const MOST = 8; // rows
const URGENCIES = { 1: "urgent", 7: "background" };
const queue = $("queue"); // it lies over the page, so that jobs move nothing when they come and go
const title = el("h2");
const list = el("ol");
const rest = el("p", { className: "hint" });
const trainings = el("div"); // as they are when the queue is opened
const fleet = el("div"); // for operators
let mayOperate; // unknown until the server has said so
let operating; // a promise while they are shown

export function startQueue() {
  queue.append(title, list, rest, trainings, fleet);
  queue.addEventListener("toggle", ({ newState }) => {
    if (newState !== "open") return;
    if (!$("train-tab").hidden) showTrainings().then(show, () => {}); // whose key may not train has none
    if (mayOperate !== false) operating ??= operate().finally(() => (operating = undefined));
  });
  trainings.addEventListener("click", ({ target }) => target.matches("a") && queue.hidePopover());
  jobs.addEventListener("job", show);
  document.addEventListener("language", () => {
    list.replaceChildren();
    show();
  });
  show();
}

const showTrainings = async () => (await loaded("./train/rows.js")).showUnfinished(trainings);

// Shows operators what they can hold back; a key that is none is asked once.
async function operate() {
  try {
    const { showFleet } = await loaded("./fleet.js");
    await showFleet(fleet, () => (mayOperate ??= true) && show());
  } catch (error) {
    mayOperate = error.type === "not-allowed" ? false : undefined;
  }
}

const order = job => (job.state === "running" ? -1 : (job.position ?? 1000 + job.urgency));

function show() {
  const waiting = jobs.unfinished.sort((a, b) => order(a) - order(b) || a.accepted_at.localeCompare(b.accepted_at));
  $("queue-count").textContent = waiting.length || "";
  title.hidden = !waiting.length && trainings.childElementCount > 0;
  title.textContent = waiting.length ? t("queueCount", waiting.length) : t("queueEmpty");
  const rows = new Map([...list.children].map(row => [row.dataset.job, row])); // whose buttons keep the focus
  arrange(list, waiting.slice(0, MOST).map(job => filled(rows.get(job.id) ?? rowOf(job), job)));
  rest.hidden = waiting.length <= MOST;
  rest.textContent = t("andMore", waiting.length - MOST);
}

function rowOf({ id }) {
  const button = (key, action) => el("button", { type: "button", className: `small ${key}`, textContent: t(key), onclick: async ({ target }) => {
    target.disabled = true;
    await action().catch(error => (target.textContent = error.message));
    target.disabled = false;
  } });
  const first = button("first", () => request(`/jobs/${id}/first`, { method: "POST" }));
  const cancel = button("cancel", async () => jobs.put(await ask("DELETE", `/jobs/${id}`)));
  const parts = ["title", "urgency", "place", "left"].map(name => el("span", { className: name }));
  return el("li", { dataset: { job: id } }, ...parts, el("progress"), el("span", { className: "tools" }, first, cancel));
}

function filled(row, job) {
  const { state, position, eta_seconds: seconds, urgency } = job;
  const [done, total] = stepsOf(job);
  const set = (name, text) => (row.querySelector(`.${name}`).textContent = text);
  set("title", `${titleOf(job)} · ${job.model}`);
  set("urgency", urgency === 3 ? "" : known(URGENCIES[urgency], `u=${urgency}`));
  set("place", state === "running" ? t("running") : t("position", position));
  set("left", seconds === undefined ? "" : t("about", duration(Math.max(1, seconds))));
  Object.assign(row.querySelector("progress"), { ariaLabel: titleOf(job), max: total, value: done });
  row.querySelector(".first").hidden = !mayOperate || state !== "queued";
  return row;
}

// The live strip of the header: workers, image-steps a second and waiting jobs, with the last minute of both as curves. It
// is made of what the page hears anyway. When the server is away it counts down to the next try.

import { isLost } from "./api.js";
import { $, el, svg } from "./dom.js";
import { lookNow, nextLook } from "./follow.js";
import { models } from "./models.js";
import { jobs } from "./store.js";
import { number, t } from "./texts.js";

const MINUTE = 60; // samples, one a second
const WINDOW = 5; // seconds over which the steps are averaged: lists show them at most as often
const strip = $("live");
const history = { rate: [], waiting: [] };
const done = new Map(); // image-steps by job, as last heard
let latest = ""; // the time of acceptance of the newest job
let news = []; // [time, image-steps] of the last seconds
const parts = { workers: el("span"), rate: el("span"), waiting: el("span") };
const lines = { rate: svg("polyline", {}), waiting: svg("polyline", {}) };
const curveOf = line => svg("svg", { viewBox: `0 0 ${MINUTE - 1} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, line);

// Counts what a job has done since it was last heard of. Of a job that is heard of first, all if it is newer than all others.
function count({ detail: { id, steps, accepted_at: at } }) {
  if (!steps) return;
  const before = done.get(id) ?? (latest && at > latest ? 0 : steps.done);
  done.set(id, steps.done);
  if (at > latest) latest = at;
  if (steps.done > before) news.push([performance.now(), steps.done - before]);
}

function sample() {
  const now = performance.now();
  news = news.filter(([time]) => now - time < WINDOW * 1000);
  const rate = news.reduce((sum, [, steps]) => sum + steps, 0) / WINDOW;
  const waiting = jobs.unfinished.filter(({ state }) => state === "queued").length;
  for (const [name, value] of Object.entries({ rate, waiting })) history[name] = [...history[name], value].slice(-MINUTE);
  show();
}

function show() {
  const seconds = Math.max(0, Math.ceil((nextLook() - performance.now()) / 1000));
  const workers = Math.max(0, ...[...models.values()].map(model => model.workers ?? 0));
  const [rate, waiting] = [history.rate.at(-1) ?? 0, history.waiting.at(-1) ?? 0];
  strip.classList.toggle("lost", isLost());
  say(parts.workers, isLost() ? t("awayFor", seconds) : t("liveWorkers", workers));
  say(parts.rate, t("liveRate", number(rate, rate && rate < 10 ? 1 : 0)));
  say(parts.waiting, t("liveWaiting", waiting));
  say($("lost-in"), isLost() ? t("tryingIn", seconds) : "");
  for (const [name, line] of Object.entries(lines)) line.setAttribute("points", pointsOf(history[name]));
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function pointsOf(values) {
  if (values.filter(Boolean).length < 3) return ""; // a stray dash
  const most = Math.max(1, ...values);
  return values.map((value, index) => `${MINUTE - values.length + index},${1 - value / most}`).join(" ");
}

export function startLive() {
  strip.append(el("span", {}, parts.workers), el("span", {}, curveOf(lines.rate), parts.rate), el("span", {}, curveOf(lines.waiting), parts.waiting));
  jobs.addEventListener("job", count);
  $("lost-now").addEventListener("click", lookNow);
  document.addEventListener("server", show);
  document.addEventListener("language", show);
  document.addEventListener("visibilitychange", () => document.hidden || (history.rate = history.waiting = [])); // nothing was heard
  setInterval(sample, 1000);
  sample();
}

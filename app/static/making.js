// Sending requests for jobs.

import { ask, request } from "./api.js";
import { models, sidesOf } from "./models.js";
import { remember } from "./saved.js";
import { isEnded, jobs } from "./store.js";

const MOMENTS = 16; // network calls of a run that are kept to look through it
const TRACE_BYTES = 2 ** 26; // the server's limit on the floats of a job: docs/http-api.md

const bodyOf = files => {
  if (!files.length) return undefined;
  const body = new FormData();
  for (const [name, file] of files) body.append(name, file);
  return body;
};

export const made = new Set(); // the ids of the jobs that were made by this page and have not ended

// Resolves to the price of a request; see "Prices" in docs/http-api.md.
export const priceOf = ({ kind, query, files }, signal) => ask("POST", `/${kind}?${query}&dry_run=true`, { body: bodyOf(files), signal });

// Makes a job and resolves to it. `trace` keeps evenly spaced moments of the run; the price says how many steps it has.
export async function make({ kind, query, files = [], urgency, trace = false }) {
  if (trace) {
    const { params, model } = await priceOf({ kind, query, files });
    query = new URLSearchParams(query);
    for (const call of momentsOf(params, models.get(model))) query.append("trace", call);
  }
  const headers = { Prefer: "respond-async", ...(urgency && { Priority: `u=${urgency}` }) };
  const job = await ask("POST", `/${kind}?${query}`, { headers, body: bodyOf(files) });
  if (files.length) await remember(job, files, query.get("fit") ?? "cover");
  made.add(job.id);
  jobs.put(job);
  return job;
}

// Draws at once: resolves to the answer in the format of `accept` when the job has succeeded. An abort cancels the job.
export async function drawNow({ kind, query, files }, accept, signal) {
  const headers = { Accept: accept };
  const response = await request(`/${kind}?${query}`, { method: "POST", headers, body: bodyOf(files), signal });
  if (response.status !== 202) return response;
  let job = await response.json(); // a request may not wait longer; from here on the job outlives it
  const { self } = job.links;
  signal.addEventListener("abort", () => ask("DELETE", self).catch(() => {}));
  while (!isEnded(job)) job = await ask("GET", self, { headers: { Prefer: "wait=60" }, signal });
  return request(`${self}/image`, { headers, signal });
}

function momentsOf({ n, steps }, { name, channels }) {
  const [width, height] = sidesOf(name);
  const each = n * width * height * channels * 4 * 2; // x_t and x_0, float32
  const count = Math.max(1, Math.min(MOMENTS, steps, Math.floor(TRACE_BYTES / each)));
  const numbers = Array.from({ length: count }, (_, index) => Math.round(steps - (index * (steps - 1)) / Math.max(1, count - 1)));
  return [...new Set(numbers)].reverse();
}

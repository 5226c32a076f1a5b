// Keeps the unfinished jobs up to date. Visible ones are followed by events, at most two at once: browsers open six
// connections to a server, for all tabs together. All others are read from lists.

import { ask, events, isForgotten, isLost, request } from "./api.js";
import { pause } from "./dom.js";
import { isEnded, jobs, UNLISTED } from "./store.js";

const STREAMS = 2;
const BUSY = 2500; // milliseconds between looks at the lists while something is unfinished
const IDLE = 5000; // also the longest time until a server that is lost is missed
const LOST_LOOK = 2000; // milliseconds until the first look for a server that is lost; each further one is a second later
const LOST_MOST = 5000;
const RECONNECT = 3000;
const FORGOTTEN = 8; // jobs that have left the lists, looked up one by one at each look
const visible = new Set(); // the ids of jobs
let shownTag; // of further jobs that are visible
const lists = new Map(); // of jobs by path, each with its tag
const streams = new Map(); // the AbortController of each followed job
let next; // the timer of the next look
let due = 0; // its time
let patience = LOST_LOOK;

// When the server is asked next, in the milliseconds of performance.now().
export const nextLook = () => due;

export function watch(id) {
  visible.add(id);
  choose();
}

export function unwatch(id) {
  visible.delete(id);
  choose();
}

// Watches the jobs of a tag, in place of those of another, and reads them; resolves when they are known.
export async function watchTag(tag) {
  shownTag = tag;
  choose();
  const query = new URLSearchParams({ limit: 100, tag });
  while (tag && tag === shownTag) {
    const page = await ask("GET", `/jobs?${query}`);
    page.jobs.forEach(job => jobs.put(job));
    if (!page.next) return;
    query.set("cursor", page.next);
  }
}

// Resolves when a job has ended, also in a tab that nobody sees.
export async function ended(id) {
  while (!isEnded(jobs.get(id))) await refresh(id, { Prefer: "wait=60" }).catch(() => pause(RECONNECT));
}

const isVisible = ({ id, tag }) => visible.has(id) || (tag && tag === shownTag);

// Opens streams for visible jobs, running ones first, and closes those that nobody sees.
function choose() {
  const open = document.hidden ? [] : jobs.unfinished.filter(isVisible);
  open.sort((a, b) => (a.state === "running" ? 0 : 1) - (b.state === "running" ? 0 : 1));
  const wanted = new Set(open.slice(0, STREAMS).map(job => job.id));
  for (const [id, controller] of streams) {
    if (wanted.has(id)) continue;
    streams.delete(id);
    controller.abort();
  }
  for (const id of wanted) if (!streams.has(id)) follow(id);
}

async function follow(id) {
  const controller = new AbortController();
  streams.set(id, controller);
  try {
    for await (const { event, data } of events(`/jobs/${id}/events`, controller.signal)) {
      if (event === "preview") jobs.preview(id, data.index, `data:image/png;base64,${data.png}`);
      else jobs.put({ id, position: undefined, eta_seconds: undefined, ...data }); // missing where the server does not know
    }
  } catch (error) {
    if (isForgotten(error)) await refresh(id).catch(() => {}); // of others the lists say what has become
  }
  if (streams.get(id) !== controller) return;
  if (!isEnded(jobs.get(id) ?? {})) {
    await refresh(id).catch(() => {}); // a stream that broke may be the first sign of a lost server
    await pause(RECONNECT);
  }
  if (streams.get(id) !== controller) return; // its card was gone, and is back
  streams.delete(id);
  choose();
}

// Resolves to the jobs of a list, which the server sends only if they have changed.
async function listed(path) {
  const before = lists.get(path);
  const response = await request(path, { headers: before && { "If-None-Match": before.tag } });
  if (response.status !== 304) lists.set(path, { tag: response.headers.get("ETag"), jobs: (await response.json()).jobs });
  return lists.get(path).jobs;
}

async function look() {
  const before = jobs.unfinished.map(job => job.id);
  const seen = new Set();
  const paths = [`/jobs?limit=24&without_tag=${UNLISTED}`];
  if (before.length) paths.push("/jobs?state=queued&limit=100", "/jobs?state=running&limit=100");
  for (const path of paths) {
    for (const job of await listed(path)) {
      seen.add(job.id);
      jobs.put(streams.has(job.id) ? job : { position: undefined, eta_seconds: undefined, ...job }); // lists do not know a place
    }
  }
  jobs.sweep();
  const lost = before.filter(id => !seen.has(id) && !streams.has(id));
  for (const id of lost.slice(0, FORGOTTEN)) await refresh(id);
}

// Reads one job again; one that the server has forgotten is gone from here, too.
async function refresh(id, headers) {
  try {
    jobs.put(await ask("GET", `/jobs/${id}`, { headers }));
  } catch (error) {
    if (isForgotten(error)) jobs.put({ ...jobs.get(id), state: "failed", expires_at: new Date(0).toISOString() });
    else throw error;
  }
}

async function lookAgain() {
  if (!document.hidden) await look().catch(() => {}); // the next look may succeed; the gallery shows errors
  patience = isLost() ? Math.min(patience + 1000, LOST_MOST) : LOST_LOOK;
  lookIn(isLost() ? patience : jobs.unfinished.length ? BUSY : IDLE);
}

function lookIn(milliseconds) {
  clearTimeout(next);
  due = performance.now() + milliseconds;
  next = setTimeout(lookAgain, milliseconds);
}

export const lookNow = () => lookIn(0);

// Begins to look after jobs.
export function start() {
  document.addEventListener("server", ({ detail }) => (detail.lost ? lookIn(LOST_LOOK) : watchTag(shownTag).catch(() => {})));
  document.addEventListener("visibilitychange", choose);
  jobs.addEventListener("job", ({ detail }) => isVisible(detail) && choose());
  lookIn(BUSY);
}

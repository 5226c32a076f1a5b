// Requests to the server, with the API key if it needs one; and server-sent events.

import { $ } from "./dom.js";
import { Problem, problemOf } from "./problems.js";
import { imported, t } from "./texts.js";

const KEY = "difuso-key";
let entered; // a promise that resolves when the user has entered a key
let lost = false; // whether the server has not answered the last request

// Whether a proxy answers because the server behind it does not; what the server itself refuses is a problem.
const isOfProxy = ({ status, headers }) => [502, 503, 504].includes(status) && !headers.get("Content-Type")?.includes("problem+json");

// Sends the page the event `server` when the server is lost, and when it is back.
function note(isLost) {
  if (lost === isLost) return;
  lost = isLost;
  document.dispatchEvent(new CustomEvent("server", { detail: { lost } }));
}

export const isLost = () => lost;
export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keyHeader = () => (hasKey() ? { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } : {});

// Resolves to a successful response, or to 304 where the caller knows the answer; asks the user for an API key if the server needs one.
export async function request(path, { headers, ...rest } = {}) {
  const key = sessionStorage.getItem(KEY);
  const response = await fetch(path, { ...rest, headers: { ...headers, ...keyHeader() } }).catch(error => {
    if (error.name === "AbortError") throw error;
  });
  const isAnswered = response && !isOfProxy(response);
  note(!isAnswered);
  if (!isAnswered) throw new Problem(t("noAnswer"), "unreachable");
  if (response.ok || response.status === 304) return response;
  if (response.status === 401) {
    if (key === sessionStorage.getItem(KEY)) await (entered ??= enterKey(key)); // or another one was entered meanwhile
    return request(path, { headers, ...rest });
  }
  throw await problemOf(response);
}

// Resolves as a promise of modules does; a server that is away is named as after any other request.
export const answered = modules => modules.catch(() => {
  note(true);
  throw new Problem(t("noAnswer"), "unreachable");
});

export const loaded = path => answered(imported(path));

// Whether an error says that there is no such job any more; or none that this version of the server can read.
export const isForgotten = error => ["job-not-found", "job-unreadable"].includes(error.type);

export const ask = async (method, path, { headers, body, signal } = {}) => (await request(path, { method, headers, body, signal })).json();

// Resolves when the user has entered a key; the next response says whether it is valid.
function enterKey(before) {
  const dialog = $("access");
  $("access-why").textContent = t(before ? "keyUnknown" : "keyNeeded");
  dialog.oncancel = event => event.preventDefault(); // the page is useless without a key
  dialog.onclose = () => entered && dialog.showModal(); // browsers let a second Escape through
  dialog.showModal();
  return new Promise(resolve => {
    dialog.querySelector("form").onsubmit = event => {
      event.preventDefault();
      sessionStorage.setItem(KEY, $("key").value.trim());
      $("key").value = "";
      entered = undefined;
      dialog.close();
      resolve();
    };
  });
}

// Yields the server-sent events of a path as {event, data}. An EventSource could not send the key.
export async function* events(path, signal) {
  const response = await request(path, { signal });
  if (response.status === 204) return; // the end is known already
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const { event, data } = Object.fromEntries(block.split("\n").map(line => line.split(/: ?(.*)/)));
      if (data) yield { event, data: JSON.parse(data) }; // the others are signs of life
    }
  }
}

// Several pictures at once: chosen by a box on each or by a key, and then saved, marked, compared or deleted together.

import { deleteJobs } from "./actions.js";
import { loaded } from "./api.js";
import { addressOf, countOf, fileName, fromNoise, labelOf } from "./describe.js";
import { $, el, refill, save } from "./dom.js";
import { fetchFile } from "./inputs.js";
import { filesOf, valuesOf } from "./models.js";
import { notify } from "./notice.js";
import { go } from "./routes.js";
import { isFavourite, toggleFavourite } from "./saved.js";
import { isGone, jobs } from "./store.js";
import { t } from "./texts.js";

const MOST_COMPARED = 4;
const MOST_WALKED = 6;
const chosen = new Set(); // JOB/INDEX, in the order in which they were chosen
const bar = $("selection");
const pictures = () => [...chosen].map(name => name.split("/")).map(([id, index]) => [jobs.get(id), Number(index)]);
export const isChosen = (job, index) => chosen.has(`${job.id}/${index}`);

// Gives an element with a picture its box. In the gallery the key S does the same, so Tab passes the box over.
export function addBox(element, job, index, tabIndex = -1) {
  const name = `${job.id}/${index}`;
  const box = el("input", { type: "checkbox", className: "box", tabIndex, checked: chosen.has(name), dataset: { name }, "aria-label": t("selectPicture"), onchange: () => choose(job, index, box.checked) });
  element.append(box);
}

// Chooses a picture, or no longer; without `isOn` the other way round than before.
export function choose(job, index, isOn = !isChosen(job, index)) {
  chosen[isOn ? "add" : "delete"](`${job.id}/${index}`);
  for (const box of document.querySelectorAll(`.box[data-name="${job.id}/${index}"]`)) box.checked = isOn;
  show();
}

function clear() {
  chosen.clear();
  document.querySelectorAll(".box:checked").forEach(box => (box.checked = false));
  show();
}

function show() {
  document.body.classList.toggle("choosing", chosen.size > 0);
  bar.hidden = !chosen.size;
  if (!chosen.size) return bar.replaceChildren();
  const button = (key, action, text = t(key), disabled = false) => {
    const press = async ({ currentTarget: made }) => {
      if (made.ariaDisabled) return;
      made.ariaDisabled = "true"; // unlike one that is disabled it keeps the focus
      await Promise.resolve(action()).catch(error => notify(error.message, { error: true }));
      if (made.isConnected) show();
    };
    return el("button", { type: "button", className: "small", textContent: text, disabled, onclick: press });
  };
  const whole = new Set(pictures().map(([job]) => job));
  const count = [...whole].reduce((sum, job) => sum + countOf(job), 0);
  refill(bar, el("span", { textContent: t("selected", chosen.size) }), button("savePicture", saveAll), button("favourites", markAll),
    button("compareThese", () => go(`#compare=${[...chosen].join(",")}`), t("compareThese"), chosen.size < 2 || chosen.size > MOST_COMPARED),
    button("walkThese", walk, t("walkThese"), !canWalk()),
    button("delete", () => (clear(), deleteJobs([...whole])), count === chosen.size ? t("delete") : t("deleteWhole", count, whole.size)), button("clearSelection", clear));
}

// Whether there is a way from picture to picture: each has a seed of its own, and model, class, files and conditions are alike.
function canWalk() {
  const all = pictures();
  const signatureOf = ([job, index]) => {
    const files = filesOf(job.model);
    return JSON.stringify([job.model, labelOf(job, index), valuesOf(job, index).map(([name, value]) => [name, files.includes(name) && value])]);
  };
  const isSeeded = ([job]) => job.kind === "generate" && !job.task?.upscale && !fromNoise(job);
  return all.length > 1 && all.length <= MOST_WALKED && all.every(isSeeded) && new Set(all.map(signatureOf)).size === 1;
}

async function walk() {
  const { makeWalk } = await loaded("./walk.js");
  await go(`#walk=${await makeWalk(pictures())}`);
}

async function saveAll() {
  const files = await Promise.all(pictures().map(([job, index]) => fetchFile(addressOf(job, index), fileName(job, index))));
  if (files.length === 1) return save(files[0], files[0].name);
  const { zipOf } = await loaded("./zip.js");
  const named = files.map((file, index) => new File([file], `${index + 1}-${file.name}`));
  save(await zipOf(named), "difuso-pictures.zip");
}

// Marks all as favourites; if all are already, none.
function markAll() {
  const all = pictures();
  const isAll = all.every(([job, index]) => isFavourite(job.id, index));
  for (const [job, index] of all) {
    if (isFavourite(job.id, index) !== isAll) continue;
    const set = toggleFavourite(job.id, index);
    document.dispatchEvent(new CustomEvent("favourite", { detail: { job, index, set } }));
  }
}

export function startSelection() {
  jobs.addEventListener("job", ({ detail: job }) => {
    if (!isGone(job)) return;
    for (const name of chosen) if (name.startsWith(`${job.id}/`)) chosen.delete(name);
    show();
  });
  document.addEventListener("language", show);
}

// The keys of the page, and the list of them under `?`.

import { deleteJob, useSettings } from "./actions.js";
import { fileName } from "./describe.js";
import { $, complain, el, openDialog, save } from "./dom.js";
import { showForm } from "./drawer.js";
import { chooseKind, form } from "./form.js";
import { fetchFile } from "./inputs.js";
import { fromPicture } from "./models.js";
import { notify, pressNewest } from "./notice.js";
import { viewer } from "./opening.js";
import { go } from "./routes.js";
import { toggleFavourite } from "./saved.js";
import { addBox, choose } from "./selection.js";
import { jobs } from "./store.js";
import { t } from "./texts.js";
import { focusFilm } from "./tile.js";

const LIST = [
  ["?", "key_help"], ["Ctrl Enter", "make"], ["1 – 9", "key_kinds"], ["N", "key_form"], ["/", "search"], ["G", "key_views"],
  ["← → ↑ ↓", "key_arrows"], ["Enter", "key_open"], ["F", "favourite"], ["S", "key_select"], ["D", "key_save"], ["U", "key_settings"], ["W", "key_film"], ["M", "like"],
  ["C", "key_compare"], ["B", "key_before"], ["Ctrl Z", "key_undo"], ["X", "key_delete"], ["Z", "key_note"], ["Esc", "close"],
];

export function showKeys() {
  const rows = LIST.flatMap(([key, text]) => [el("dt", {}, ...key.split(" ").map(each => (each === "–" ? " – " : el("kbd", { textContent: each })))), el("dd", { textContent: t(text) })]);
  openDialog("keys", t("keys"), t("close"), el("h2", { textContent: t("keys") }), el("dl", {}, ...rows));
}

function focused() {
  const link = document.activeElement?.closest?.("a.picture");
  const job = jobs.get(link?.closest("article")?.id.replace("job-", ""));
  return job && [job, Number(link.dataset.index), link];
}

// Moves the focus to another picture of the gallery; up and down find the nearest of the next row.
function move(key) {
  const links = [...$("jobs").querySelectorAll("a.picture")];
  const at = links.indexOf(document.activeElement);
  const goal = at < 0 ? links.find(link => link.getBoundingClientRect().top >= 0) : key === "ArrowLeft" ? links[at - 1]
    : key === "ArrowRight" ? links[at + 1] : nearest(links, links[at], key === "ArrowDown");
  goal?.focus();
  goal?.scrollIntoView({ block: "nearest" });
  return Boolean(goal);
}

function nearest(links, from, down) {
  const box = from.getBoundingClientRect();
  const apart = link => {
    const { top, left } = link.getBoundingClientRect();
    const distance = down ? top - box.top : box.top - top;
    return distance < 8 ? Infinity : distance * 4 + Math.abs(left - box.left);
  };
  const best = links.reduce((a, b) => (apart(b) < apart(a) ? b : a));
  return apart(best) === Infinity ? undefined : best;
}

// What keys do with the focused picture of the gallery, beside it, and while a picture is open; each returns false if it does
// nothing here.
const PICTURE = {
  f: (job, index) => void document.dispatchEvent(new CustomEvent("favourite", { detail: { job, index, set: toggleFavourite(job.id, index) } })),
  d: async (job, index, link) => save(await fetchFile(link.href, fileName(job, index)), fileName(job, index)),
  s: (job, index, link) => {
    const figure = link.closest("figure"); // a strip has none
    if (figure && !figure.querySelector(".box")) addBox(figure, job, index);
    choose(job, index);
  },
  u: useSettings,
  m: (job, index) => (fromPicture(job.model) ? false : void go(`#like=${job.id}/${index}`)),
  w: (job, index, link) => focusFilm(link),
  x: deleteJob,
};
const PAGE = {
  "?": showKeys,
  n: () => showForm().then(() => $("kind").focus()),
  "/": () => $("filters").querySelector("[type=search]").focus(),
  g: () => (location.hash = location.hash.startsWith("#grid") ? "#gallery" : "#grid"),
  z: pressNewest,
};
const VIEWER = {
  "?": showKeys,
  arrowleft: () => viewer().move(-1),
  arrowright: () => viewer().move(1),
  f: () => viewer().favourite(),
  d: () => viewer().save(),
  u: () => viewer().settings(),
  c: () => viewer().nextTab(),
  m: () => viewer().like(),
  x: () => viewer().delete(),
};

export function startKeys() {
  document.addEventListener("keydown", event => {
    if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held would delete, or make the same again
    const open = [...document.querySelectorAll("dialog[open]")].at(-1);
    const isElsewhere = (open && !open.contains(form)) || (event.target.form ?? form) !== form;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return isElsewhere ? undefined : form.requestSubmit();
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.matches("input, select, textarea, canvas")) return;
    if (open && open !== viewer()?.dialog) return;
    const act = actionOf(event, open);
    const done = act ? act() : false;
    if (done === false) return;
    event.preventDefault();
    Promise.resolve(done).catch(error => (viewer() ? complain(viewer().alarm, error) : notify(error.message, { error: true })));
  });
}

function actionOf({ key, target }, open) {
  const name = key.toLowerCase();
  if (open) return VIEWER[name];
  const found = PICTURE[name] && focused();
  if (found) return () => PICTURE[name](...found);
  if (key.startsWith("Arrow") && !$("gallery").hidden && (target === document.body || target.closest("#gallery"))) return () => move(key);
  const option = /^[1-9]$/.test(key) && $("kind").options[Number(key) - 1];
  return option && !option.hidden ? () => chooseKind(option.value) : PAGE[name];
}

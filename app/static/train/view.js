// Training from the page: #train takes pictures and lists what was sent and trained, #train=ID shows one training.

import { answered, ask, request } from "../api.js";
import { $, complain, el } from "../dom.js";
import { routeOf } from "../routes.js";
import { addPart, number, t } from "../texts.js";
import { makerOf, take, takeDataset } from "./maker.js";
import { deleteButton, rowOf } from "./rows.js";
import { showRun } from "./run.js";

const LOOK = 5000; // milliseconds between looks at the lists
const section = $("train");
let leaving = new AbortController(); // for what is shown
let listed; // what the lists show

document.addEventListener("language", () => !section.hidden && openTrain(routeOf(location.hash).value));
addEventListener("hashchange", () => section.hidden && leaving.abort());
section.addEventListener("dragover", event => event.preventDefault());
section.addEventListener("drop", event => {
  const { files } = event.dataTransfer;
  if (!files.length || !section.querySelector(".drop")) return;
  event.preventDefault();
  event.stopPropagation();
  take([...files]);
});

export async function openTrain(id) {
  await answered(Promise.all([addPart("train"), addPart("modelcard")]));
  leaving.abort();
  leaving = new AbortController();
  const place = el("div", { className: "page" });
  section.replaceChildren(place);
  if (id) return showRun(id, place, leaving.signal);
  place.append(el("h2", { textContent: t("trainTitle") }));
  if ($("train-tab").hidden) return place.append(el("p", { textContent: t("trainOff") }));
  listed = undefined;
  const lists = el("div", { className: "lists" });
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  for (const { signal } = leaving; !signal.aborted; await new Promise(resolve => setTimeout(resolve, LOOK))) {
    try {
      if (!document.hidden) await list(lists, alarm);
      if (!signal.aborted && !lists.isConnected) place.append(el("p", { className: "hint", textContent: t("trainLead") }), ...makerOf(), lists);
      complain(alarm, null);
    } catch (error) {
      place.append(alarm);
      complain(alarm, error); // such as that the key may not train
      if (error.type === "not-allowed") return undefined;
    }
  }
  return undefined;
}

// Lists the trainings and the datasets of the caller, if they have changed.
async function list(place, alarm) {
  const found = await Promise.all([ask("GET", "/trainings"), ask("GET", "/datasets")]);
  if (listed === JSON.stringify(found) || place.contains(document.activeElement)) return; // nothing moves under the hand of the reader
  listed = JSON.stringify(found);
  const [{ trainings }, { datasets }] = found;
  const datasetRow = dataset => {
    const { name, owner, summary, expires_at: until } = dataset;
    const again = el("button", { type: "button", className: "small", textContent: t("trainAgain"), "aria-label": `${t("trainAgain")}, ${name}`, onclick: () => takeDataset(dataset).catch(error => complain(alarm, error)) });
    const remove = deleteButton(name, () => request(`/datasets/${name}${owner ? `?owner=${owner}` : ""}`, { method: "DELETE" }).then(() => row.remove(), error => (place.prepend(alarm), complain(alarm, error))));
    const words = [t("pictures", number(summary.count)), t("trainUntil", new Date(until * 1000))].join(" · ");
    const row = el("li", {}, el("span", { className: "title", textContent: name }), el("span", { className: "hint", textContent: words }), el("span", { className: "row" }, again, remove));
    return row;
  };
  const titled = (key, rows) => (rows.length ? [el("h3", { textContent: t(key) }), el("ul", {}, ...rows)] : []);
  place.replaceChildren(...titled("trainTrainings", trainings.map(rowOf)), ...titled("trainDatasets", datasets.map(datasetRow)));
}

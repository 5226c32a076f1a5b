// Training from the page: #train takes pictures and lists what was sent and trained, #train=ID shows one training.

import { answered, request } from "../api.js";
import { $, arrange, complain, el } from "../dom.js";
import { routeOf } from "../routes.js";
import { addPart, number, t } from "../texts.js";
import { askOurs, makerOf, take, takeDataset } from "./maker.js";
import { dropped } from "./reading.js";
import { deleteButton, rowOf } from "./rows.js";
import { showRun } from "./run.js";

const LOOK = 5000; // milliseconds between looks at the lists
const section = $("train");
let leaving = new AbortController(); // for what is shown

document.addEventListener("language", () => !section.hidden && openTrain(routeOf(location.hash).value));
addEventListener("hashchange", () => section.hidden && leaving.abort());
section.addEventListener("dragover", event => event.preventDefault());
section.addEventListener("drop", event => {
  const { files } = event.dataTransfer;
  if (!files.length || !section.querySelector(".drop")) return;
  event.preventDefault();
  event.stopPropagation();
  dropped(event.dataTransfer).then(take);
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
  const lists = ["trainTrainings", "trainDatasets"].map(key => el("section", {}, el("h3", { textContent: t(key) }), el("ul")));
  const listed = el("div", { className: "lists" });
  const rows = new Map(); // by what they are of
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  for (const { signal } = leaving; !signal.aborted; await new Promise(resolve => setTimeout(resolve, LOOK))) {
    try {
      if (!document.hidden) await list(rows, lists);
      arrange(listed, lists.filter(each => each.lastChild.childElementCount));
      if (!signal.aborted && !listed.isConnected) place.append(el("p", { className: "hint", textContent: t("trainLead") }), ...makerOf(), listed);
      complain(alarm, null);
    } catch (error) {
      place.append(alarm);
      complain(alarm, error); // such as that the key may not train
      if (error.type === "not-allowed") return undefined;
    }
  }
  return undefined;
}

// Lists the trainings and the datasets of the caller.
async function list(rows, places) {
  const [trainings, datasets] = await askOurs();
  const row = (key, make) => rows.set(key, make(rows.get(key))).get(key);
  const lists = [trainings.map(each => row(each.id, before => rowOf(each, trainings, before))), datasets.map(each => row(`${each.owner}/${each.name}/${each.created_at}`, before => before ?? datasetRow(each)))];
  places.forEach((place, at) => arrange(place.lastChild, lists[at]));
}

function datasetRow(dataset) {
  const { name, owner, summary, expires_at: until } = dataset;
  const alarm = el("p", { className: "error", role: "alert", hidden: true });
  const fail = error => complain(alarm, error);
  const again = el("button", { type: "button", className: "small", textContent: t("trainAgain"), "aria-label": `${t("trainAgain")}, ${name}`, onclick: () => takeDataset(dataset).catch(fail) });
  const remove = deleteButton(name, () => request(`/datasets/${name}${owner ? `?owner=${owner}` : ""}`, { method: "DELETE" }).then(() => row.remove(), fail));
  const words = [t("pictures", number(summary.count)), t("trainUntil", new Date(until * 1000))].join(" · ");
  const row = el("li", {}, el("span", { className: "title", textContent: name }), el("span", { className: "hint", textContent: words }), el("span", { className: "row" }, again, remove), alarm);
  return row;
}

// One training: how far it is, its losses, what it draws from the same seeds, and what can be asked of it.

import { ask, events, request } from "../api.js";
import { copy } from "../command.js";
import { complain, el, multiple, refill } from "../dom.js";
import { drawn, smooth } from "../modelcard/plots.js";
import { openModelCard } from "../modelcard/view.js";
import { loadModels, models } from "../models.js";
import { playheadOf } from "../playhead.js";
import { legendOf } from "../plot.js";
import { translated } from "../problems.js";
import { go } from "../routes.js";
import { number, shown, t } from "../texts.js";
import { drawButton, tilesOf } from "../tiles.js";
import { takeDataset } from "./maker.js";
import { deleteButton, FEW, heldBy, OVER, placeOf, sheetOf, wordsOf } from "./rows.js";

const AGAIN = 2000; // milliseconds until a stream that was cut off is asked for again, and until a look for the model
const WIDE = 548; // CSS pixels, about
const CLEARLY = 0.12; // of the samples: more copies than by chance, which is 0.05, also of sixty samples
const SMOOTHING = 0.6; // of the losses, as on the model's card
const LONGER = { taste: "good", good: "best" };
const EARLY = 0.1; // of the steps: what comes out before is blobs
const ASKED = { pause: ["queued", "running"], resume: ["paused", "pausing", "stopped", "failed"], stop: ["queued", "running", "paused"] };
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const chapter = (key, ...content) => el("div", { hidden: true }, el("h3", { textContent: t(key) }), ...content);

// Shows a training in a place until the signal says that the reader is gone.
export async function showRun(id, place, signal) {
  const path = `/trainings/${id}`;
  const [title, state, bar, tools] = [el("h2", { tabIndex: -1 }), el("p", { className: "state", role: "status" }), el("progress"), el("div", { className: "row start" })];
  const acts = el("div", { className: "row start" }, tools);
  const [alarm, news, plot, legend, film, nearest] = [el("p", { className: "error", role: "alert", hidden: true }), el("ul", { className: "news" }), el("div", { className: "plot training", role: "img" }), el("p", { className: "legend hint" }), el("div"), el("div")];
  const [curve, samples, near, served] = [chapter("trainLoss", plot, legend), chapter("trainSamples", film), chapter("trainNearest", el("p", { className: "hint", textContent: t("trainNearestHint") }), nearest), chapter("trainModel")];
  const [pictures, code, recipe, log] = [el("details", { hidden: true }), el("code"), el("pre", { tabIndex: 0 }), el("pre", { tabIndex: 0 })];
  const copying = el("button", { type: "button", className: "small", textContent: t("copy"), onclick: () => copy(code.textContent, copying, code) });
  const folded = el("details", {}, el("summary", { textContent: t("trainRecipe") }), el("div", { className: "terminal" }, el("pre", { tabIndex: 0 }, code), copying), recipe, log);
  place.append(el("p", {}, el("a", { href: "#train", textContent: `← ${t("trainAll")}` })), title, state, bar, alarm, news, acts, el("div", { className: "watch" }, el("div", {}, curve, served), el("div", {}, samples, near)), pictures, folded);
  const fail = error => signal.aborted || error.name === "AbortError" || complain(alarm, error);
  const bitmaps = new Map(); // promises, by path: what was drawn once stays
  const load = each => bitmaps.get(each) ?? bitmaps.set(each, request(each).then(answer => answer.blob()).then(createImageBitmap)).get(each);
  let facts;
  let dataset; // undefined once it is deleted
  let ahead; // the trainings of the caller, one of which may have the trainer
  let remove;
  const told = {}; // what was shown last, by part

  const update = (part, key, action) => told[part] !== key && (told[part] = key) !== undefined && Promise.resolve(action()).catch(error => ((told[part] = undefined), fail(error)));

  const showFilm = async () => {
    const [sheets, steps] = [await Promise.all(facts.sheets.map(load)), facts.progress.sheets];
    const [canvas, before] = [canvasOf(sheets[0]), film.querySelector("[type=range]")];
    const draw = moment => canvas.getContext("2d").drawImage(sheets[moment], 0, 0);
    const tool = playheadOf([{ canvas, draw }], sheets.length, moment => t("trainStep", number(steps[moment])));
    const slider = tool.querySelector("[type=range]");
    slider.ariaLabel = t("trainFilm");
    const isFocused = before && before === document.activeElement;
    if (before && before.value !== before.max) slider.value = before.value; // where the reader has put it
    slider.dispatchEvent(new Event("input"));
    film.replaceChildren(tool);
    if (isFocused) slider.focus();
    samples.hidden = false;
  };
  const showNearest = async () => {
    const sheet = await load(facts.nearest.at(-1));
    const canvas = Object.assign(canvasOf(sheet), { role: "img", ariaLabel: t("trainNearest") });
    canvas.getContext("2d").drawImage(sheet, 0, 0);
    nearest.replaceChildren(canvas);
    near.hidden = false;
  };
  const showTools = () => {
    const button = (key, action, className = "") => el("button", { type: "button", className, textContent: t(key), onclick: () => action().catch(fail) });
    const asking = Object.keys(ASKED).filter(each => ASKED[each].includes(facts.state) && (each !== "stop" || facts.progress.step)).map(each => button(`train_${each}`, async () => show(await ask("POST", `${path}/${each}`))));
    const isServed = facts.progress.served && models.get(facts.name)?.defaults;
    const use = isServed && drawButton(models.get(facts.name), t("trainUse"));
    const longer = facts.state === "succeeded" && dataset && LONGER[facts.preset] && button("trainLonger", () => takeDataset(dataset, LONGER[facts.preset]).then(() => go("#train")));
    const card = isServed && button("aboutModel", () => openModelCard(facts.name));
    refill(tools, ...[use, card, longer, ...asking].filter(Boolean));
    remove ??= acts.appendChild(deleteButton(facts.name, () => request(path, { method: "DELETE" }).then(() => Promise.all([go("#train"), loadModels()])).catch(fail), t("trainSureModel"))); // it stays while it asks again
  };
  const showServed = async () => {
    for (const { served: mine } = told; mine === told.served && !signal.aborted; await pause(AGAIN)) {
      await loadModels();
      const model = models.get(facts.name);
      if (model?.state !== "ready" || model.version === told.version) continue; // the workers have not read it yet
      told.version = model.version;
      served.querySelector(".tiles")?.remove();
      served.append(tilesOf(undefined, [model]));
      served.hidden = false;
      return showTools();
    }
  };
  const showPictures = async () => {
    const query = facts.owner ? `?owner=${facts.owner}` : "";
    dataset = await ask("GET", `/datasets/${facts.dataset}${query}`).catch(() => undefined);
    if (dataset) pictures.replaceChildren(el("summary", { textContent: t("trainPictures") }), ...wordsOf(heldBy(dataset)), await sheetOf(dataset));
    pictures.hidden = !dataset;
    showTools();
  };
  const say = () => state.textContent !== placeOf(facts, ahead) && (state.textContent = placeOf(facts, ahead));
  const showAhead = async () => {
    for (; facts.state === "queued" && !signal.aborted; await pause(AGAIN)) ({ trainings: ahead } = await ask("GET", "/trainings", { signal })), say();
  };

  function show(next) {
    facts = next;
    const { name, progress, reason, learning_rate: lowered, advice } = facts;
    const { step, steps, losses, held_out: heldOut, copies, served: from } = progress;
    title.textContent = name;
    say();
    Object.assign(bar, { max: steps || 1, value: step, ariaLabel: name, hidden: !steps || facts.state === "succeeded" });
    const isEarly = steps > 0 && step < EARLY * steps && !OVER.includes(facts.state);
    const said = [reason && ["error", translated(reason)], lowered && ["warning", t("trainLowered", shown(lowered))], advice && copies === undefined && ["warning", t("trainFew", FEW)], isEarly && ["", t("trainEarly")],
      from && !OVER.includes(facts.state) && ["", t("trainServed")], copies !== undefined && [copies > CLEARLY ? "warning" : "", t("trainCopies", number(100 * copies), copies > CLEARLY)]].filter(Boolean);
    update("news", JSON.stringify(said), () => news.replaceChildren(...said.map(([className, textContent]) => el("li", { className, textContent }))));
    const lines = (losses.length > 1 ? [smooth(losses, SMOOTHING), heldOut ?? []] : []).filter(points => points.length > 1).map(points => ({ points }));
    curve.hidden = !lines.length;
    if (lines.length) plot.replaceChildren(...drawn(lines));
    legend.replaceChildren(...legendOf(...lines.map(({ points }, at) => t(["trainLossIs", "trainHeldOut"][at], shown(points.at(-1)[1])))));
    plot.ariaLabel = `${t("trainLoss")}: ${legend.textContent}`;
    [code.textContent, recipe.textContent, log.textContent] = [commandOf(facts), facts.recipe, facts.log];
    recipe.hidden = !facts.recipe;
    log.hidden = !facts.log;
    if (facts.sheets.length) update("film", facts.sheets.length, showFilm);
    if (facts.nearest?.length) update("nearest", facts.nearest.at(-1), showNearest);
    update("tools", `${facts.state} ${step > 0}`, showTools);
    update("ahead", facts.state === "queued", showAhead);
    update("pictures", facts.dataset, showPictures);
    if (from) update("served", from, showServed);
  }

  for (; !signal.aborted; await pause(AGAIN)) {
    if (document.hidden) continue; // browsers open six connections to a server, for all tabs together
    const away = new AbortController();
    document.addEventListener("visibilitychange", () => away.abort(), { once: true });
    try {
      show(await ask("GET", path, { signal }));
      complain(alarm, null);
      if (OVER.includes(facts.state)) continue; // it can be resumed, here or elsewhere
      for await (const { data } of events(`${path}/events`, AbortSignal.any([signal, away.signal]))) if (!signal.aborted) show(data);
    } catch (error) {
      fail(error);
      if (error.type === "training-not-found") return;
    }
  }
}

function canvasOf({ width, height }) {
  const canvas = el("canvas", { width, height });
  canvas.style.width = `${multiple(width, WIDE)}px`;
  return canvas;
}

const commandOf = ({ dataset, name, preset, minutes }) => `difuso train --server ${location.origin} ${dataset}.zip --name ${name} --preset ${preset}${minutes ? ` --minutes ${minutes}` : ""}`;

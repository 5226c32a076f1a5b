// What makes pictures again elsewhere, with a tab for each language, and copying to the clipboard.

import { hasKey } from "./api.js";
import { fromNoise, queryOf } from "./describe.js";
import { el } from "./dom.js";
import { conditionsIn, conditionsOf, filesOf } from "./models.js";
import { recall } from "./saved.js";
import { t } from "./texts.js";

const KEY = "difuso-snippet"; // the language that was chosen last

// Copies a text; where the browser has no clipboard, as without HTTPS, it selects an element that shows the text.
export async function copy(text, button, element) {
  try {
    await navigator.clipboard.writeText(text);
    button.style.minWidth = `${button.offsetWidth}px`; // a narrower one would let the next button slide under the pointer
    button.textContent = t("copied");
  } catch {
    element.hidden = false;
    getSelection().selectAllChildren(element);
  }
}

export async function snippetsView(job, index) {
  const texts = snippetsOf(job, await recall(job.id), index);
  const code = el("pre", { tabIndex: 0 }, el("code"));
  const button = el("button", { type: "button", className: "small", textContent: t("copy") });
  let chosen = texts[sessionStorage.getItem(KEY)] ? sessionStorage.getItem(KEY) : "curl";
  const show = () => {
    code.firstChild.textContent = texts[chosen];
    button.textContent = t("copy");
    for (const tab of tabs) tab.ariaPressed = String(tab.textContent === chosen);
  };
  const tabs = Object.keys(texts).map(name => el("button", { type: "button", textContent: name, onclick: () => (sessionStorage.setItem(KEY, (chosen = name)), show()) }));
  const bar = el("div", { className: "tabs", role: "group", "aria-label": t("command") }, ...tabs);
  button.addEventListener("click", () => copy(texts[chosen], button, code));
  show();
  return el("div", { className: "terminal" }, bar, code, button, fromNoise(job) && el("p", { className: "hint", textContent: t("noiseSent") }));
}

export async function showCommand(job, tools) {
  const shown = tools.parentElement.querySelector(".terminal");
  if (shown) return shown.remove();
  tools.after(await snippetsView(job));
}

const quote = text => `'${text.replaceAll("'", "'\\''")}'`;
const quoted = text => (/^[\w.,:-]+$/.test(text) ? text : quote(text)); // where a shell needs it
const isNumber = text => /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text);
const grouped = query => [...new Set(query.keys())].map(name => [name, query.getAll(name)]);
const NOISE = [["noise", { name: "noise.npy" }]]; // stands for the noise, which only its sender has

function valueOf(model, name, text) {
  const { type } = new Map(conditionsOf(model)).get(name) ?? {};
  return type === "vector" ? `[${text.replaceAll(",", ", ")}]` : type === "number" ? text : JSON.stringify(text);
}

// Returns the texts by name. `files` are pairs of a part's name and its file, if they are known; `fit` is how they were
// fitted; without an index they are of all pictures. The command line has no picture as a condition.
function snippetsOf(job, { files = fromNoise(job) ? NOISE : [], fit } = {}, index) {
  const query = queryOf(job, index);
  if (fit && job.kind !== "generate") query.set("fit", fit);
  const sorted = Object.groupBy(files, ([name]) => (filesOf(job.model).includes(name) ? "seen" : "parts"));
  const all = { curl: curl(job, query, files), Python: python(job, query, sorted) };
  return sorted.seen ? all : { ...all, difuso: command(job, query, files) };
}

function curl({ kind, links }, query, files) {
  const parts = files.map(([name, file]) => ` -F ${quote(`${name}=@${file.name}`)}`).join("");
  const key = hasKey() ? ' -H "Authorization: Bearer $DIFUSO_KEY"' : "";
  return `curl -X POST '${location.origin}/${kind}?${query}'${key}${parts} -o pictures.${links.images ? "png" : "npz"}`;
}

function python({ kind, model }, query, { seen: pictures = [], parts = [] }) {
  const literal = text => (text === "true" ? "True" : isNumber(text) ? text : JSON.stringify(text));
  const listed = all => (all.length > 1 ? `[${all.join(", ")}]` : all[0]);
  const values = grouped(query).filter(([name]) => name !== "condition").map(([name, all]) => `${name === "lambda" ? "lambda_" : name}=${listed(all.map(literal))}`);
  const conditions = [...Map.groupBy(conditionsIn(query), ([name]) => name)].map(([name, all]) => `${JSON.stringify(name)}: ${listed(all.map(([, value]) => valueOf(model, name, value)))}`);
  conditions.push(...pictures.map(([name, file]) => `${JSON.stringify(name)}: Path(${JSON.stringify(file.name)})`));
  if (conditions.length) values.push(`conditions={${conditions.join(", ")}}`);
  const images = parts.map(([name, file]) => `${name}=${JSON.stringify(file.name)}`);
  const key = hasKey() ? ', api_key="…"' : "";
  return [
    ...(pictures.length ? ["from pathlib import Path", ""] : []),
    "from difuso import Client",
    "",
    `client = Client(${JSON.stringify(location.origin)}${key})`,
    `pictures = client.${kind}(${[...images, ...values].join(", ")})`,
    "for index, picture in enumerate(pictures):",
    '    picture.save(f"picture-{index}.png")',
  ].join("\n");
}

function command({ kind }, query, files) {
  const optional = ["mask", "noise"]; // whose parts are options; all others are arguments
  const option = name => (name === "n" ? "-n" : `--${name.replaceAll("_", "-")}`);
  const shown = grouped(query).filter(([name]) => name !== "task");
  const options = shown.flatMap(([name, all]) => all.map(value => (value === "true" ? option(name) : `${option(name)} ${quoted(value)}`)));
  const degradation = query.has("task") ? [query.get("task")] : [];
  const [images, others] = [false, true].map(are => files.filter(([name]) => optional.includes(name) === are));
  const arguments_ = [...degradation, ...images.map(([, file]) => quoted(file.name)), ...others.map(([name, file]) => `${option(name)} ${quoted(file.name)}`)];
  const key = hasKey() ? "DIFUSO_API_KEY=… " : "";
  return [`${key}difuso ${kind === "generate" ? "sample" : kind}`, ...arguments_, ...options, `--server ${location.origin}`, "--out pictures"].join(" ");
}

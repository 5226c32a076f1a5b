// A request as text that makes its pictures elsewhere: for curl, for Python, and for the command line of difuso.

import { hasKey } from "./api.js";
import { fromNoise, queryOf } from "./describe.js";
import { conditionsIn, conditionsOf, filesOf } from "./values.js";

const quote = text => `'${text.replaceAll("'", "'\\''")}'`;
const quoted = text => (/^[\w.,:-]+$/.test(text) ? text : quote(text)); // where a shell needs it
const isNumber = text => /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text);
const grouped = query => [...new Set(query.keys())].map(name => [name, query.getAll(name)]);

const NOISE = [["noise", { name: "noise.npy" }]]; // stands for the noise, which only its sender has

// Returns the value of a condition as Python writes it.
function valueOf(model, name, text) {
  const { type } = new Map(conditionsOf(model)).get(name) ?? {};
  return type === "vector" ? `[${text.replaceAll(",", ", ")}]` : type === "number" ? text : JSON.stringify(text);
}

// Returns the texts by name. `files` are pairs of a part's name and its file, if they are known; `fit` is how they were
// fitted; without an index they are of all pictures. The command line has no picture as a condition.
export function snippetsOf(job, { files = fromNoise(job) ? NOISE : [], fit } = {}, index) {
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

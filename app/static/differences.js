// What differs in how pictures were made.

import { nameOf, queryOf } from "./describe.js";
import { el } from "./dom.js";
import { className } from "./models.js";
import { known, t, word } from "./texts.js";
import { conditionsIn } from "./values.js";

// The words for parameters that the page calls otherwise than the API.
const TERMS = { label: "class", n: "count", pictures: "inputs", sigma: "noise", noise: "" };
const PREFIX = "condition:"; // of conditions, whose names may be those of parameters

// Returns a table of what differs in the requests that make pictures again; each is {job, index}.
export function differencesOf(pictures) {
  const columns = pictures.map(({ job, index }) => {
    const query = queryOf(job, index);
    const conditions = conditionsIn(query);
    query.delete("condition");
    const facts = new Map([["kind", job.kind], ...[...new Set(query.keys())].map(name => [name, query.getAll(name).join(", ")]), ...conditions.map(([name, value]) => [`${PREFIX}${name}`, word(job.model, name, value)])]);
    if (facts.has("label")) facts.set("label", className(job.model, Number(facts.get("label"))));
    if (job.pictures) facts.set("pictures", job.pictures.map(({ sha256 }) => sha256.slice(0, 8)).join(", "));
    return facts;
  });
  const names = [...new Set(columns.flatMap(column => [...column.keys()]))].filter(name => new Set(columns.map(column => column.get(name))).size > 1);
  if (!names.length) return el("p", { className: "hint", textContent: t("sameRecipe") });
  const head = el("tr", {}, el("td"), ...pictures.map(({ job, index }) => el("th", { scope: "col", textContent: nameOf(job, index) })));
  const wordsOf = name => (name.startsWith(PREFIX) ? word(pictures[0].job.model, name.slice(PREFIX.length)) : known(TERMS[name] ?? name, name));
  const rows = names.map(name => el("tr", {}, el("th", { scope: "row", textContent: wordsOf(name) }), ...columns.map(column => el("td", { textContent: column.get(name) ?? "–" }))));
  const table = el("table", {}, el("caption", { textContent: t("differs") }), el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { className: "grid-table", tabIndex: 0, role: "region", "aria-label": t("differs") }, table);
}

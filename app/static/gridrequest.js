// The requests for the jobs of a grid.

import { sweptBy } from "./axes.js";
import { isPerImage } from "./gridaxis.js";
import { settings } from "./kinds.js";
import { priceOf } from "./making.js";
import { classesOf, models } from "./models.js";
import { askConditions, conditionsIn, conditionsOf, neverWith } from "./values.js";

const OF_SAMPLER = ["sampler", "spacing", "eta", "variance"]; // settings that suit one sampler

// Returns the request for cells that one job can draw. What the form says holds too, where the model and the axes leave it.
export function requestOf(group, axes, { query: base, files, urgency }, { tag, seed }) {
  const [whole] = group.map(asked => Object.fromEntries(asked.map((value, at) => [axes[at], value])));
  const drawn = whole.model ?? base.get("model");
  const replaced = axes.includes("plan") ? [...settings.keys(), "plan"] : axes.includes("sampler") || axes.includes("model") ? OF_SAMPLER : [];
  const query = new URLSearchParams({ model: drawn, tag });
  for (const name of ["plan", "guide", ...settings.keys()]) if (!axes.includes(name) && !replaced.includes(name) && base.getAll(name).length === 1) query.set(name, base.get(name));
  const [label] = base.getAll("label");
  if (label && !axes.includes("label") && (classesOf(models.get(drawn)).includes(label) || drawn === base.get("model"))) query.set("label", label);
  const known = conditionsOf(drawn).map(([name]) => name);
  for (const [name, value] of conditionsIn(base)) if (known.includes(name) && !axes.includes(`condition:${name}`)) query.append("condition", `${name}:${value}`);
  axes.forEach((axis, at) => {
    if (!isPerImage(axis)) return query.set(axis, group[0][at]);
    for (const asked of group) query.append(sweptBy(axis) ? "condition" : axis, sweptBy(axis) ? `${sweptBy(axis)}:${asked[at]}` : asked[at]);
  });
  if (!axes.includes("seed")) for (const _ of group) query.append("seed", seed);
  return { kind: "generate", query, files: files.filter(([name]) => known.includes(name)), urgency };
}

// Fills in what a request for several conditions leaves out, so that all other things are equal: as the server does for that one of
// its pictures whose other conditions were seen with most of the rest.
export async function filledIn(request) {
  const { query } = request;
  const [model, asked] = [query.get("model"), Map.groupBy(conditionsIn(query), ([name]) => name)];
  if (!asked.size || !models.get(model).examples) return request;
  const all = Array.from({ length: query.getAll("seed").length }, (_, at) => [...asked].map(([name, pairs]) => [name, pairs[at % pairs.length][1]]));
  const firsts = [...new Map(all.map(each => [each[0][1], each])).values()]; // one for each value of the first condition
  const dealt = await Promise.all(firsts.map(each => dealtTo(request, each)));
  const unseen = values => all.filter(each => each.some(([name, value]) => neverWith(model, name, value, { ...values, ...Object.fromEntries(each) }))).length;
  const [best] = dealt.sort((one, other) => unseen(one) - unseen(other));
  askConditions(query, { model, conditions: Object.fromEntries(Object.entries(best).filter(([name]) => !asked.has(name)).map(([name, value]) => [name, [value]])) });
  return request;
}

// Resolves to the conditions of one picture, as the server fills them in.
async function dealtTo(request, asked) {
  const query = new URLSearchParams([...request.query].filter(([name]) => !["condition", "seed", "label"].includes(name)));
  for (const name of ["seed", "label"]) if (request.query.has(name)) query.set(name, request.query.get(name));
  for (const [name, value] of asked) query.append("condition", `${name}:${value}`);
  const { params: { conditions = {} } } = await priceOf({ ...request, query });
  return Object.fromEntries(Object.entries(conditions).map(([name, [value]]) => [name, value]));
}

// Forms for the kinds of jobs that the page has no form of its own for, made from what the server's OpenAPI says.

import { el } from "./dom.js";

const ELSEWHERE = ["condition", "dry_run", "tag", "trace", "version", "webhook"]; // parameters that the page asks for in its own way, or never

// The settings of a run by name, in the order of the server's table, each with the value that is not worth a word.
export const settings = new Map();

// Makes the form know the server's OpenAPI: its settings, their bounds and choices, and the kinds that are new to it.
export function addKinds(form, { paths, components }) {
  const posts = Object.entries(paths).filter(([, { post }]) => post?.tags?.includes("jobs")).map(([path, { post }]) => [path.slice(1), post]);
  const queries = posts.map(([, { parameters }]) => parameters.filter(each => each.in === "query"));
  const common = queries[0].filter(({ name }) => queries.every(query => query.some(each => each.name === name)));
  for (const parameter of common) showCommon(form, parameter);
  const { n, seed, label, conditions, guide, ...others } = components.schemas.SamplingParams.properties; // those before are of each picture
  for (const [name, { default: usual }] of Object.entries(others)) settings.set(name, usual ?? null);
  const select = form.querySelector("#kind");
  const there = new Set([...select.options].map(option => option.value));
  posts.forEach(([name, { summary, requestBody }], index) => {
    if (there.has(name)) return;
    select.append(new Option(summary, name));
    const own = queries[index].filter(parameter => !common.some(each => each.name === parameter.name));
    const fieldset = el("fieldset", { hidden: true, disabled: true, dataset: { when: name } });
    fieldset.append(...files(requestBody), ...own.map(field));
    form.querySelector("fieldset[data-when]").before(fieldset);
  });
}

const valueOf = schema => schema.anyOf?.find(part => part.type !== "null") ?? schema;

// Completes the field of a parameter of all kinds. A setting that the form does not know gets one.
function showCommon(form, parameter) {
  const { name, schema } = parameter;
  const control = form.elements[name];
  if (control?.matches?.("[data-choices]")) control.append(...(schema.examples ?? valueOf(schema).enum).map(choice => new Option(choice)));
  else if (control?.type === "number") Object.assign(control, { min: valueOf(schema).minimum ?? "", max: valueOf(schema).maximum ?? "" });
  else if (!control && !ELSEWHERE.includes(name)) form.querySelector("#urgency").closest(".pair").append(field(parameter));
}

function files(body) {
  const { properties = {}, required: parts = [] } = body?.content["multipart/form-data"].schema ?? {};
  const required = body?.required ? parts : [];
  return Object.entries(properties).map(([name, { description }]) => {
    const input = el("input", { name, type: "file", required: required.includes(name) });
    return labelled(`${name}, ${description}`, input);
  });
}

function field({ name, description, required, schema }) {
  const { type, enum: choices, minimum, maximum } = valueOf(schema);
  if (choices) {
    const select = el("select", { name });
    select.append(...(required ? [] : [el("option", { value: "", dataset: { t: "asModel" } })]), ...choices.map(choice => new Option(choice)));
    return labelled(description, select);
  }
  const input = el("input", { name, required });
  if (type === "boolean") return labelled(description, Object.assign(input, { type: "checkbox", value: "true", required: false }));
  if (type === "integer" || type === "number") Object.assign(input, { type: "number", min: minimum ?? "", max: maximum ?? "", step: type === "integer" ? 1 : "any" });
  if (schema.default === undefined) input.dataset.tHint = "asModel";
  else input.placeholder = schema.default;
  return labelled(description, input);
}

function labelled(text, control) {
  const words = el("span", { textContent: `${text[0].toUpperCase()}${text.slice(1)}` });
  const check = control.type === "checkbox";
  return el("label", { className: check ? "check" : "" }, ...(check ? [control, words] : [words, control]));
}

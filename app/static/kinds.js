// Forms for the kinds of jobs that the page has no form of its own for, made from what the server's OpenAPI says.

import { el } from "./dom.js";

// Fills in the lists of samplers and others, and adds the kinds that the form does not know.
export function addKinds(form, paths) {
  const { parameters } = paths["/generate"].post;
  for (const select of form.querySelectorAll("select[data-choices]")) {
    const { schema } = parameters.find(parameter => parameter.name === select.name);
    const names = schema.examples ?? schema.anyOf.flatMap(part => part.enum ?? []);
    select.append(...names.map(name => new Option(name)));
  }
  const select = form.querySelector("#kind");
  const there = new Set([...select.options].map(option => option.value));
  const common = new Set(parameters.map(parameter => parameter.name));
  for (const [path, { post }] of Object.entries(paths)) {
    const name = path.slice(1);
    if (!post?.tags?.includes("jobs") || there.has(name)) continue;
    select.append(new Option(post.summary, name));
    const own = post.parameters.filter(parameter => parameter.in === "query" && !common.has(parameter.name));
    const fieldset = el("fieldset", { hidden: true, disabled: true, dataset: { when: name } });
    fieldset.append(...files(post.requestBody), ...own.map(field));
    form.querySelector("fieldset[data-when]").before(fieldset);
  }
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
  const { type, enum: choices, minimum, maximum } = schema.anyOf?.find(part => part.type !== "null") ?? schema;
  if (choices) {
    const select = el("select", { name });
    select.append(...(required ? [] : [new Option("default", "")]), ...choices.map(choice => new Option(choice)));
    return labelled(description, select);
  }
  const input = el("input", { name, required });
  if (type === "boolean") return labelled(description, Object.assign(input, { type: "checkbox", value: "true", required: false }));
  if (type === "integer" || type === "number") {
    Object.assign(input, { type: "number", min: minimum ?? "", max: maximum ?? "", step: type === "integer" ? 1 : "any" });
  }
  input.placeholder = schema.default ?? "default";
  return labelled(description, input);
}

function labelled(text, control) {
  const words = el("span", { textContent: `${text[0].toUpperCase()}${text.slice(1)}` });
  const check = control.type === "checkbox";
  return el("label", { className: check ? "check" : "" }, ...(check ? [control, words] : [words, control]));
}

// Forms for the kinds of jobs that the page has no form of its own for, made from what the server's OpenAPI says.

export function addKinds(form, paths) {
  const select = form.querySelector("#kind");
  const known = new Set([...select.options].map(option => option.value));
  const common = new Set(paths["/generate"].post.parameters.map(parameter => parameter.name));
  for (const [path, { post }] of Object.entries(paths)) {
    const name = path.slice(1);
    if (!post?.tags?.includes("jobs") || known.has(name)) continue;
    select.append(new Option(post.summary, name));
    const own = post.parameters.filter(parameter => parameter.in === "query" && !common.has(parameter.name));
    const fieldset = document.createElement("fieldset");
    fieldset.dataset.when = name;
    fieldset.hidden = fieldset.disabled = true;
    fieldset.append(...files(post.requestBody), ...own.map(field));
    select.closest("label").after(fieldset);
  }
}

function files(body) {
  const { properties = {}, required: parts = [] } = body?.content["multipart/form-data"].schema ?? {};
  const required = body?.required ? parts : [];
  return Object.entries(properties).map(([name, { description }]) => {
    const attributes = { name, type: "file", accept: "image/png,image/jpeg,.npy,.npz", required: required.includes(name) };
    return labelled(`${name}, ${description}`, Object.assign(document.createElement("input"), attributes));
  });
}

function field({ name, description, required, schema }) {
  const { type, enum: choices, minimum, maximum } = schema.anyOf?.find(part => part.type !== "null") ?? schema;
  if (choices) {
    const select = Object.assign(document.createElement("select"), { name });
    select.append(...(required ? [] : [new Option("default", "")]), ...choices.map(choice => new Option(choice)));
    return labelled(description, select);
  }
  const input = Object.assign(document.createElement("input"), { name, required });
  if (type === "boolean") return labelled(description, Object.assign(input, { type: "checkbox", value: "true", required: false }));
  if (type === "integer" || type === "number") {
    Object.assign(input, { type: "number", min: minimum ?? "", max: maximum ?? "", step: type === "integer" ? 1 : "any" });
  }
  input.placeholder = schema.default ?? "default";
  return labelled(description, input);
}

function labelled(text, control) {
  const label = document.createElement("label");
  label.append(`${text[0].toUpperCase()}${text.slice(1)} `, control);
  label.classList.toggle("check", control.type === "checkbox");
  return label;
}

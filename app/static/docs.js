// The page at /docs: the server's OpenAPI description, for people.

import { el as make } from "./dom.js";

const prose = (text = "") => text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

function typeOf(schema) {
  const { $ref, anyOf, oneOf, type, items, additionalProperties, enum: choices, format } = schema;
  if ($ref) return [make("a", { href: `#${nameOf($ref)}` }, nameOf($ref))];
  const parts = (anyOf ?? oneOf)?.filter(part => part.type !== "null");
  if (parts) return parts.flatMap((part, index) => [...(index ? [" or "] : []), ...typeOf(part)]);
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (choices) return [choices.join(", ")];
  if (items) return ["list of ", ...typeOf(items)];
  if (additionalProperties) return ["object of ", ...typeOf(additionalProperties)];
  return [`${format ?? type ?? "any"}${bounds(schema)}`];
}

function bounds({ minimum, exclusiveMinimum, maximum }) {
  const low = minimum ?? (exclusiveMinimum === undefined ? undefined : `above ${exclusiveMinimum}`);
  if (low === undefined && maximum === undefined) return "";
  return maximum === undefined ? `, from ${low}` : `, ${low ?? ""}…${maximum}`;
}

const nameOf = reference => reference.split("/").at(-1);
const row = (name, type, ...words) => make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, ...type), make("td", {}, ...words));
const table = (title, rows) => (rows.length ? [make("h4", {}, title), make("table", {}, ...rows)] : []);

function parameterRow({ name, in: place, required, description, schema }) {
  const notes = [
    ...(place === "query" ? [] : [place]),
    ...(required ? ["required"] : []),
    ...(`${schema.default ?? ""}` ? [`default ${schema.default}`] : []), // an empty list is no default
    ...(schema.examples?.length === 1 ? [`such as ${schema.examples.flat().join(", ")}`] : []), // several are a choice
  ];
  return row(name, typeOf(schema), ...prose(description), notes.length ? ` (${notes.join("; ")})` : "");
}

function partRows(body) {
  const { properties = {}, required = [] } = body?.content["multipart/form-data"].schema ?? {};
  return Object.entries(properties).map(([name, { description }]) =>
    row(name, ["file"], description, required.includes(name) ? ` (${body.required ? "required" : body.description})` : ""));
}

function answerRow([status, { description, content = {} }]) {
  const types = Object.entries(content).flatMap(([type, { schema = {} }], index) =>
    [index ? ", " : "", type, ...("$ref" in schema || "anyOf" in schema ? [" ", ...typeOf(schema)] : [])]);
  return row(status, types, `${description}.`);
}

// A command that works with a PNG for each part, where the server has no API keys.
function command(path, method, { parameters = [], requestBody, responses }) {
  const sent = parameters.filter(({ in: place, schema }) => place === "query" && schema.examples?.length === 1);
  const query = new URLSearchParams(sent.flatMap(({ name, schema }) => schema.examples.flat().map(value => [name, value])));
  const { required = [] } = requestBody?.content["multipart/form-data"].schema ?? {};
  const parts = required.map(name => ` -F ${name}=@${name}.png`).join("");
  const output = responses[200]?.content?.["image/png"] ? " -o images.png" : "";
  return `curl -X ${method.toUpperCase()} '${location.origin}${path}${query.size ? `?${query}` : ""}'${parts}${output}`;
}

function operation(path, method, described) {
  const { operationId, summary, description, parameters = [], requestBody, responses } = described;
  return make("article", { id: operationId }, make("details", {},
    make("summary", {}, make("strong", {}, method.toUpperCase()), " ", make("code", {}, path), ` ${summary}`),
    ...(description ? [make("p", {}, ...prose(description))] : []),
    make("pre", {}, make("code", {}, command(path, method, described))),
    ...table("Parameters", parameters.map(parameterRow)),
    ...table("Files", partRows(requestBody)),
    ...table("Answers", Object.entries(responses).map(answerRow))));
}

function schemaArticle([name, { description, properties = {}, ...schema }]) {
  const rows = Object.entries(properties).map(([key, value]) => row(key, typeOf(value), ...prose(value.description)));
  const text = make("p", {}, ...prose(description?.split("\n\n")[0]));
  const content = rows.length ? [make("table", {}, ...rows)] : [make("p", {}, ...typeOf(schema))];
  return make("article", { id: name }, make("h4", {}, name), text, ...content);
}

function showTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.firstElementChild?.tagName === "DETAILS") target.firstElementChild.open = true;
  target?.scrollIntoView();
}

async function show(main) {
  const { paths, components } = await (await fetch("/openapi.json")).json();
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => [path, method, described]));
  for (const tag of new Set(operations.flatMap(([, , { tags }]) => tags))) {
    main.append(make("h2", {}, tag[0].toUpperCase() + tag.slice(1)));
    main.append(...operations.filter(([, , { tags }]) => tags.includes(tag)).map(each => operation(...each)));
  }
  main.append(make("h2", {}, "Schemas"), ...Object.entries(components.schemas).map(schemaArticle));
  showTarget();
}

addEventListener("hashchange", showTarget);
const main = document.querySelector("main");
show(main).catch(error => main.append(make("p", { className: "error" }, error.message)));

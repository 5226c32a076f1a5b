// What the server refuses, in the reader's language, and with the names that the fields have on the page.

import { t } from "./texts.js";

// An answer that says why not; `type` is the end of its problem's path, and `field` the name of what is wrong.
export class Problem extends Error {
  constructor(message, type, field) {
    super(message);
    this.type = type;
    this.field = field;
  }
}

export const fieldOf = name =>
  [...document.querySelectorAll(`#form [name="${CSS.escape(name ?? "")}"]`)].find(field => !field.matches(":disabled"));

function labelOf(name) {
  const label = fieldOf(name)?.labels[0];
  return (label?.querySelector("[data-t]") ?? label)?.textContent || name;
}

// Says a detail of the server in the reader's language, if its sentence is known there.
export function translated(detail) {
  const known = t("details").find(([pattern]) => pattern.test(detail));
  return known ? detail.replace(...known) : detail;
}

export async function problemOf(response) {
  const body = (await response.json().catch(() => null)) ?? {}; // another server than ours may answer anything
  const type = body.type?.split("/").pop();
  const [title, detail = translated(body.detail ?? "")] = t("problems")[type] ?? [body.title || `HTTP ${response.status}`];
  const gone = (body.errors ?? []).find(({ parameter, detail }) => parameter === "model" && detail.startsWith("Input should be one of"));
  if (gone) return new Problem(t("noModel", new URL(response.url).searchParams.get("model")), type, "model");
  const errors = (body.errors ?? []).map(each => [each.parameter ?? each.part ?? each.header ?? "body", translated(each.detail)]);
  const about = errors.map(([name, said]) => `${labelOf(name)}: ${said}`).join("; ");
  const wait = response.headers.get("Retry-After");
  return new Problem([`${title}.`, about || detail, wait && t("tryAgainIn", wait)].filter(Boolean).join(" "), type, errors[0]?.[0]);
}

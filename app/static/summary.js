// What the form says of the chosen model and its run, and what is set among its folded fields.

import { $ } from "./dom.js";
import { models, sidesOf } from "./models.js";
import { number, t } from "./texts.js";
import { conditionsOf } from "./values.js";

export function showFacts(form) {
  const { model: { value: name }, plan, sampler, steps } = form.elements;
  const { defaults, plans, rate, reason, channels } = models.get(name) ?? {};
  if (!defaults) return;
  $("me").textContent = t("me", name);
  $("me").hidden = channels !== 3 || !conditionsOf(name).some(([, each]) => each.type === "choice" && each.null);
  const { sampler: usual, steps: count } = (!plan.disabled && plans[plan.value]) || defaults;
  const speed = rate ? t("speed", number(rate)) : (reason ?? t("noWorker"));
  $("facts").textContent = t("modelFacts", sidesOf(name).join("×"), sampler.value || usual, steps.value || count, speed);
  const folded = [...form.querySelectorAll("details :is(input:not([type=checkbox]), select):enabled")];
  const isSet = field => field.value && field.value !== (field.options ? field.options[0].value : field.defaultValue);
  const words = folded.filter(isSet).map(field => `${field.labels[0].firstElementChild.textContent} ${field.selectedOptions?.[0].text ?? field.value}`);
  $("chosen").textContent = words.length ? `: ${words.join(", ")}` : "";
}

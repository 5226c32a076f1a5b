// The facts of a picture, as a list of terms.

import { el } from "./dom.js";
import { className } from "./models.js";
import { number, t } from "./texts.js";

export function factsOf({ model, params, kind, task }, index) {
  const label = Array.isArray(params.label) ? params.label[index] : params.label;
  const facts = {
    model,
    ...(label !== undefined && { class: className(model, label) }),
    sampler: params.sampler,
    steps: number(params.steps),
    spacing: params.spacing,
    ...(params.eta && { eta: number(params.eta, 2) }),
    ...(params.guidance_scale !== 1 && { guidance: number(params.guidance_scale, 1) }),
    ...(params.guidance_low !== undefined && { guidanceLow: number(params.guidance_low, 3) }),
    ...(params.guidance_high !== undefined && { guidanceHigh: number(params.guidance_high, 3) }),
    ...(kind === "restore" && task.sigma && { noise: number(task.sigma, 1) }),
  };
  return el("dl", {}, ...Object.entries(facts).flatMap(([key, value]) => [el("dt", { textContent: t(key) }), el("dd", { textContent: value })]));
}

// Two pictures of one size in one frame, with a divider that can be dragged: what lies before is left of it.

import { el } from "./dom.js";
import { t } from "./texts.js";

export function dividedBy(before, after) {
  before.className = "before";
  const slider = el("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": t("divider") });
  const frame = el("div", { className: "compare" }, after, before, el("span", { className: "divider" }), slider);
  const divide = () => frame.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", divide);
  divide();
  return frame;
}

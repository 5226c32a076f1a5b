// The form's fields of guidance, as far as the chosen model can be guided.

import { $, option } from "./dom.js";

export function showGuidance(form, { weaker, conditions = {}, classifier_classes: classes, defaults }) {
  const free = Object.keys(conditions).filter(name => conditions[name].null);
  const { elements } = form;
  $("free").hidden = $("interval").hidden = !weaker && !free.length;
  $("classifier").hidden = !classes;
  $("guidance").hidden = $("free").hidden && !classes;
  $("guides").hidden = Boolean(weaker) || free.length < 2;
  elements.guide.replaceChildren(option("guideAll", ""), ...free.map(name => new Option(name)));
  elements.guidance_scale.dataset.tHint = weaker ? "asModel" : "off";
  elements.guidance_scale.value = elements.classifier_scale.value = "";
  for (const end of ["guidance_low", "guidance_high"]) {
    elements[end].dataset.tHint = defaults[end] === undefined ? "noLimit" : "asModel";
    elements[end].value = "";
  }
}

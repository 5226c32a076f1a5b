// The curve of a noise schedule: the shares of the picture and of the noise in x_t over the timesteps, and places on it.

import { el, svg } from "../dom.js";
import { t } from "../texts.js";

const line = (className, shares) =>
  svg("polyline", { class: className, points: shares.map((share, timestep) => `${timestep},${1 - share}`).join(" ") });

// Returns {element, show}: `show` marks the timestep of a state and those that were visited before it.
export function curveOf(alphas) {
  const last = alphas.length - 1;
  const lines = [line("of-picture", alphas.map(Math.sqrt)), line("of-noise", alphas.map(alpha => Math.sqrt(1 - alpha)))];
  const plot = svg("svg", { viewBox: `0 0 ${last} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
  const marks = el("div", { className: "marks", "aria-hidden": "true" });
  const ticks = [["most", 1], ["none", 0], ["least", 0], ["longest", last]].map(([name, value]) => el("span", { className: `tick ${name}`, textContent: value }));
  const legend = el("p", { className: "legend hint" }, el("span", { className: "of-picture", textContent: t("learnSignal") }),
    el("span", { className: "of-noise", textContent: t("learnNoise") }), el("span", { textContent: `t = 0 … ${last}` }));
  const markAt = (timestep, className) => {
    const mark = el("span", { className });
    mark.style.left = `${(timestep / last) * 100}%`;
    mark.style.top = `${(1 - Math.sqrt(alphas[timestep])) * 100}%`;
    return mark;
  };
  const show = (here, visited = []) => {
    const places = [...visited.map(timestep => [timestep, "mark"]), [here, "mark here"]];
    marks.replaceChildren(...places.filter(([timestep]) => timestep >= 0).map(place => markAt(...place)));
  };
  return { element: el("div", { className: "curve" }, el("div", { className: "plot" }, plot, marks, ...ticks), legend), show };
}

// Plots of one curve or two: the drawing, the words at the ends of its axes, and what the curves are.

import { el, svg } from "./dom.js";

const CLASSES = ["", "second"]; // of the curves

// Returns a drawing of curves. Each is a list of points, pairs of a place, from 0 to `width`, and a height, from 0 to 1.
export function drawingOf(curves, width) {
  const lines = curves.map((points, at) => svg("polyline", { class: CLASSES[at], points: points.map(([place, height]) => `${place},${1 - height}`).join(" ") }));
  return svg("svg", { viewBox: `0 0 ${width} 1`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
}

// Returns words at the axes, by their place: `most`, `half` and `none` of the height, `least` and `longest` of the width.
export const ticksOf = words => Object.entries(words).map(([place, textContent]) => el("span", { className: `tick ${place}`, textContent }));

export const legendOf = (...words) => words.map((textContent, at) => el("span", { className: CLASSES[at], textContent }));

// An open picture, as large as there is room for.

import { addressOf, nameOf } from "./describe.js";
import { el, grainOf } from "./dom.js";
import { isEditable } from "./editing/changes.js";
import { drawnBy, sidesOf, sizeOf } from "./models.js";
import { t } from "./texts.js";

// Returns the image of a picture; of one that can be changed in place a frame, with room for another beside it and for what can be
// chosen.
export function largeOf(job, index) {
  const isEdited = isEditable(job, index);
  const [side, isWide] = [sizeOf(drawnBy(job)), innerWidth > 768];
  const grain = grainOf(side);
  const room = isEdited && isWide ? Math.min((innerWidth - 500) / 2, innerHeight - 400) : Math.min(innerWidth - (isWide ? 480 : 64), innerHeight - 220);
  const size = grain * Math.max(1, Math.floor(room / grain));
  const image = el("img", { src: addressOf(job, index), alt: t("pictureAlt", nameOf(job, index)), className: "large" });
  image.classList.toggle("smooth", size % side !== 0);
  image.style.width = `${(sidesOf(drawnBy(job))[0] * size) / side}px`;
  if (!isEdited) return image;
  const frame = el("div", { className: "editing" }, el("div", { className: "pair" }, el("figure", { className: "new" }, image)));
  frame.style.setProperty("--wide", image.style.width);
  return frame;
}

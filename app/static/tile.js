// A finished picture of the gallery: a link that opens it and can be dragged, with its film and a box to select it.

import { fileName, nameOf } from "./describe.js";
import { el } from "./dom.js";
import { addFilm, holdable, IS_TOUCH, playFirst } from "./film.js";
import { ADDRESS } from "./inputs.js";
import { enterPicture } from "./routes.js";
import { addBox, choose, isChosen } from "./selection.js";
import { t } from "./texts.js";

export function tileOf(job, index, source) {
  const image = el("img", { src: source, alt: t("pictureAlt", nameOf(job, index)), decoding: "async", draggable: !IS_TOUCH });
  const link = el("a", { href: source, className: "picture", draggable: !IS_TOUCH, dataset: { index } }, image);
  const figure = el("figure", { dataset: { index } }, link);
  link.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the browser opens it elsewhere
    event.preventDefault();
    if (IS_TOUCH && document.body.matches(".choosing")) return choose(job, index);
    enterPicture(job.id, index);
  });
  holdable(figure);
  link.addEventListener("dragstart", event => {
    event.dataTransfer.setData(ADDRESS, JSON.stringify([source, fileName(job, index)]));
  });
  const dress = () => {
    if (!figure.querySelector(".box")) addBox(figure, job, index);
    addFilm(figure, job, index);
  };
  if (IS_TOUCH || isChosen(job, index)) dress();
  else figure.addEventListener("pointerenter", dress, { once: true }); // a thousand pictures need no thousand sliders
  playFirst(figure, job, index);
  return figure;
}

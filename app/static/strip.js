// A slider over the pictures of an interpolation, which lie on each other; moving only changes which one is seen.

import { addressOf, countOf, nameOf } from "./describe.js";
import { el, multiple } from "./dom.js";
import { drawnBy, sizeOf } from "./models.js";
import { number, t } from "./texts.js";

const WIDE = 256; // CSS pixels, about
const SMALL = 64;

export function stripOf(job, open) {
  const shares = job.task.shares;
  const size = multiple(sizeOf(drawnBy(job)), WIDE);
  const images = shares.map((_, index) => el("img", { src: addressOf(job, index), alt: t("pictureAlt", nameOf(job, index)), hidden: true }));
  const pile = el("a", { href: addressOf(job, 0), className: "pile picture" }, ...images);
  const value = el("output");
  const slider = el("input", { type: "range", min: 0, max: countOf(job) - 1, step: 1, "aria-label": t("share") });
  const film = shares.map((share, index) =>
    el("button", { type: "button", "aria-label": `λ ${number(share, 2)}`, onclick: () => ((slider.value = index), show()) }, el("img", { src: addressOf(job, index), alt: "" })));
  const show = () => {
    const index = slider.valueAsNumber;
    images.forEach((image, each) => (image.hidden = each !== index));
    pile.href = addressOf(job, index);
    pile.dataset.index = index;
    film.forEach((button, each) => (button.ariaPressed = String(each === index)));
    value.textContent = `λ ${number(shares[index], 2)}`;
    slider.setAttribute("aria-valuetext", value.textContent);
  };
  slider.addEventListener("input", show);
  pile.addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(slider.valueAsNumber);
  });
  slider.value = Math.floor(countOf(job) / 2);
  show();
  const ends = job.task.seeds ?? [t("part_image_a"), t("part_image_b")];
  const scale = el("div", { className: "scale" }, el("span", { textContent: ends[0] }), value, el("span", { textContent: ends[1] }));
  const strip = el("div", { className: "strip" }, pile, el("div", { className: "film" }, ...film), el("div", { className: "strip-side" }, slider, scale));
  strip.style.setProperty("--tile", `${size}px`);
  strip.style.setProperty("--small", `${multiple(sizeOf(drawnBy(job)), SMALL)}px`);
  return strip;
}

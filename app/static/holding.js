// What lies over a picture, its film and its box, comes on a screen for fingers when the picture is held.

export const IS_TOUCH = matchMedia("(pointer: coarse)").matches;
const HOLD = 450; // milliseconds

// Lets an element with a picture be held. The click that ends a hold does nothing.
export function holdable(element) {
  let timer;
  let isHeld = false;
  element.addEventListener("pointerdown", ({ pointerType }) => {
    isHeld = false;
    if (pointerType === "mouse") return;
    timer = setTimeout(() => (isHeld = true, element.classList.add("held")), HOLD);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) element.addEventListener(end, () => clearTimeout(timer));
  element.addEventListener("contextmenu", event => IS_TOUCH && event.preventDefault()); // or the browser's own menu covers it
  element.addEventListener("click", event => isHeld && event.detail && (event.preventDefault(), event.stopPropagation()), true);
}

// A touch anywhere else lets go.
document.addEventListener("pointerdown", ({ target }) => {
  for (const held of document.querySelectorAll(".held")) if (!held.contains(target)) held.classList.remove("held");
});

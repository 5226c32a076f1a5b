// Short news at the edge of the window, where the reader is: what has happened, and a button to see or undo it.

import { $, el } from "./dom.js";

const SECONDS = 8;

// Shows a text for some seconds, longer while the mouse rests on it or its button has the focus. `press` is what its button
// does, and `pass` what happens if it was not pressed. Returns a function that lets it pass at once.
export function notify(text, { button, press, pass, error = false } = {}) {
  const note = el("div", { className: error ? "note error" : "note" }, el("span", { textContent: text }));
  let timer;
  const end = action => {
    if (!note.isConnected) return;
    clearTimeout(timer);
    note.remove();
    return action?.();
  };
  const hold = () => clearTimeout(timer);
  const wait = () => {
    hold();
    if (!note.contains(document.activeElement)) timer = setTimeout(end, SECONDS * 1000, pass);
  };
  if (button) note.append(el("button", { type: "button", className: "small", textContent: button, onclick: () => end(press) }));
  for (const event of ["pointerenter", "focusin"]) note.addEventListener(event, hold);
  for (const event of ["pointerleave", "focusout"]) note.addEventListener(event, wait);
  $("notices").append(note);
  wait();
  return () => end(pass);
}

// Presses the button of the newest text that has one; returns whether there is one.
export function pressNewest() {
  const button = [...$("notices").querySelectorAll("button")].at(-1);
  button?.click();
  return Boolean(button);
}

// Short news at the edge of the window, where the reader is: what has happened, and a button to see or undo it.

import { $, el } from "./dom.js";

const SECONDS = 8;

// Shows a text for some seconds, longer while the mouse rests on it. `press` is what its button does, and `pass` what
// happens if it was not pressed. Returns a function that lets it pass at once.
export function notify(text, { button, press, pass, error = false } = {}) {
  const note = el("div", { className: error ? "note error" : "note" }, el("span", { textContent: text }));
  let timer;
  const end = action => {
    if (!note.isConnected) return;
    clearTimeout(timer);
    note.remove();
    return action?.();
  };
  const wait = () => (timer = setTimeout(end, SECONDS * 1000, pass));
  if (button) note.append(el("button", { type: "button", className: "small", textContent: button, onclick: () => end(press) }));
  note.addEventListener("pointerenter", () => clearTimeout(timer));
  note.addEventListener("pointerleave", wait);
  $("notices").append(note);
  wait();
  return () => end(pass);
}

// What the request in the form would take, asked of the server whenever the form has changed.

import { $, debounced } from "./dom.js";
import { form, readForm } from "./form.js";
import { settled } from "./inputs.js";
import { priceOf } from "./making.js";
import { duration, number, t } from "./texts.js";

const PAUSE = 600; // milliseconds without a change
let asked; // the request whose price is shown or on its way
let price; // the answer, in case the language changes
let controller;

function say(text, error = false) {
  $("price").textContent = text;
  $("price").classList.toggle("error", error);
}

async function ask() {
  await settled();
  if (!form.matches(":valid")) return forget();
  let wanted;
  try {
    wanted = readForm();
  } catch (error) {
    forget();
    return say(error.message, true);
  }
  const key = JSON.stringify([wanted.kind, `${wanted.query}`, wanted.files.map(([name, { size, name: file, lastModified }]) => [name, file, size, lastModified])]);
  if (key === asked) return;
  controller?.abort();
  controller = new AbortController();
  asked = key;
  try {
    price = await priceOf(wanted, controller.signal);
    show();
  } catch (error) {
    if (error.name === "AbortError") return;
    asked = undefined;
    say(error.message, true);
  }
}

function forget() {
  controller?.abort();
  asked = price = undefined;
  say("");
}

function show() {
  if (!price) return;
  const { image_steps: steps, seconds, eta_seconds: wait } = price;
  const [alone, done] = [seconds, wait].map(each => (each === null ? "" : duration(each)));
  say(t("price", number(steps), alone, done === alone ? "" : done));
}

export function startPrice() {
  const soon = debounced(PAUSE, ask);
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("picture", soon);
  document.addEventListener("language", show);
  document.addEventListener("server", ({ detail }) => detail.lost || soon());
  soon();
}

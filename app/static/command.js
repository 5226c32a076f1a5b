// What makes pictures again elsewhere, with a tab for each language, and copying to the clipboard.

import { fromNoise } from "./describe.js";
import { el } from "./dom.js";
import { recall } from "./saved.js";
import { snippetsOf } from "./snippets.js";
import { t } from "./texts.js";

const KEY = "difuso-snippet"; // the language that was chosen last

// Copies a text; where the browser has no clipboard, as without HTTPS, it selects an element that shows the text.
export async function copy(text, button, element) {
  try {
    await navigator.clipboard.writeText(text);
    button.style.minWidth = `${button.offsetWidth}px`; // a narrower one would let the next button slide under the pointer
    button.textContent = t("copied");
  } catch {
    element.hidden = false;
    getSelection().selectAllChildren(element);
  }
}

// Resolves to the snippets of a job, or of one of its pictures.
export async function snippetsView(job, index) {
  const texts = snippetsOf(job, await recall(job.id), index);
  const code = el("pre", { tabIndex: 0 }, el("code"));
  const button = el("button", { type: "button", className: "small", textContent: t("copy") });
  const bar = el("div", { className: "tabs", role: "group", "aria-label": t("command") });
  let chosen = texts[sessionStorage.getItem(KEY)] ? sessionStorage.getItem(KEY) : "curl";
  const show = () => {
    code.firstChild.textContent = texts[chosen];
    button.textContent = t("copy");
    for (const tab of bar.children) tab.ariaPressed = String(tab.textContent === chosen);
  };
  for (const name of Object.keys(texts)) {
    const tab = el("button", { type: "button", textContent: name });
    tab.addEventListener("click", () => {
      sessionStorage.setItem(KEY, (chosen = name));
      show();
    });
    bar.append(tab);
  }
  button.addEventListener("click", () => copy(texts[chosen], button, code));
  show();
  return el("div", { className: "terminal" }, bar, code, button, fromNoise(job) && el("p", { className: "hint", textContent: t("noiseSent") }));
}

// Shows them below the tools of a card, or hides them again.
export async function showCommand(job, tools) {
  const shown = tools.parentElement.querySelector(".terminal");
  if (shown) return shown.remove();
  tools.after(await snippetsView(job));
}

// The command for a terminal that makes the pictures of a job again.

import { commandOf } from "./describe.js";
import { el } from "./dom.js";
import { recall } from "./saved.js";
import { t } from "./texts.js";

// Shows it below the tools of a card, or hides it again.
export async function showCommand(job, tools) {
  const shown = tools.parentElement.querySelector(".terminal");
  if (shown) return shown.remove();
  const text = commandOf(job, await recall(job.id));
  const copy = el("button", { type: "button", className: "small", textContent: t("copy") });
  const code = el("pre", { tabIndex: 0 }, el("code", { textContent: text }));
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = t("copied");
    } catch {
      getSelection().selectAllChildren(code); // without HTTPS there is no clipboard; the keyboard can copy
    }
  });
  tools.after(el("div", { className: "terminal" }, code, copy));
}

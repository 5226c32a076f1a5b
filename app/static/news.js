// Announces the end of jobs that this page has made, where the reader does not see their card.

import { titleOf } from "./describe.js";
import { cardOf, reveal } from "./gallery.js";
import { gridOf } from "./gridcard.js";
import { made } from "./making.js";
import { notify } from "./notice.js";
import { isEnded, jobs } from "./store.js";
import { t } from "./texts.js";

function isSeen(element) {
  if (!element?.checkVisibility()) return false;
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

export function startNews() {
  jobs.addEventListener("job", ({ detail: job }) => {
    if (!isEnded(job) || !made.delete(job.id) || job.state === "cancelled" || gridOf(job)) return;
    if (isSeen(cardOf(job.id)?.element)) return;
    const words = job.state === "succeeded" ? "isDone" : "hasFailed";
    const announce = () => notify(t(words, titleOf(job)), { button: t("show"), press: () => reveal(job), error: words === "hasFailed" });
    const open = document.querySelector("dialog[open]"); // over which nothing else can be pressed
    open ? open.addEventListener("close", announce, { once: true }) : announce();
  });
}

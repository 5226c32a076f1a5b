// The pictures that addresses name, and what the page does where there are none.

import { ask, isForgotten } from "./api.js";
import { addressOf } from "./describe.js";
import { notify } from "./notice.js";
import { Problem } from "./problems.js";
import { leave } from "./routes.js";
import { isGone, jobs } from "./store.js";
import { t } from "./texts.js";

const GONE = "result-expired";

// Resolves to the job of a picture, JOB/INDEX. A picture that is gone is a problem, too.
export async function jobOf(address) {
  const [id, index] = address.split("/");
  const job = jobs.get(id) ?? (await ask("GET", `/jobs/${encodeURIComponent(id)}`));
  jobs.put(job);
  if (isGone(job) || !addressOf(job, Number(index))) throw new Problem(t("noPicture"), GONE);
  return job;
}

export const isMissing = error => isForgotten(error) || error.type === GONE;

// Says why what an address names cannot be shown. Once that is gone, as it is without an error, the page leaves the address, from
// which `fill` may fill in the form. After any other error the address stays: another try may find what it names.
export function tellMissing(error = { type: GONE }, fill = () => false) {
  const isOver = isMissing(error);
  notify(isOver ? t(fill() ? "noPictureFilled" : "noPicture") : error.message, { error: true });
  if (isOver) leave();
}

// Opening and closing a picture, as its address comes and goes.

import { ask } from "./api.js";
import { addressOf } from "./describe.js";
import { fillFormFrom } from "./form.js";
import { notify } from "./notice.js";
import { leavePicture, routeOf } from "./routes.js";
import { isGone, jobs } from "./store.js";
import { t } from "./texts.js";

let shown; // the open viewer

export const viewer = () => shown;

// Opens the picture of an address, JOB/INDEX; one that is not there is told, and its address goes.
export async function openPicture(address) {
  const [id, index] = address.split("/");
  const job = jobs.get(id) ?? (await ask("GET", `/jobs/${encodeURIComponent(id)}`).catch(error => ({ error })));
  if (routeOf(location.hash).value !== address) return; // the reader has gone on
  if (!job.error) jobs.put(job);
  closePicture();
  if (job.error || isGone(job) || !addressOf(job, Number(index))) {
    const isFilled = fillFormFrom(routeOf(location.hash).query);
    notify(job.error?.type === "unreachable" ? job.error.message : t(isFilled ? "noPictureFilled" : "noPicture"), { error: true });
    return leavePicture();
  }
  const { Viewer } = await import("./viewer.js"); // the largest part of the page, which a first look does not need
  if (routeOf(location.hash).value === address) shown = new Viewer(job, Number(index), closed);
}

// Closes the open picture because the address is another one.
export function closePicture() {
  const before = shown;
  shown = undefined;
  before?.dialog.close();
}

function closed(which) {
  if (shown !== which) return;
  shown = undefined;
  leavePicture();
}

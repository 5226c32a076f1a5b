// Opening and closing a picture, as its address comes and goes.

import { loaded } from "./api.js";
import { fillFormFrom } from "./form.js";
import { leave, routeOf } from "./routes.js";

let shown; // the open viewer
export const viewer = () => shown;

// Opens the picture of an address, JOB/INDEX. Once it is gone, the address fills in the form.
export async function openPicture(address) {
  // The largest part of the page, which a first look does not need.
  const [{ jobOf, tellMissing }, { Viewer }] = await Promise.all([loaded("./missing.js"), loaded("./viewer.js")]);
  const job = await jobOf(address).catch(error => ({ error }));
  if (routeOf(location.hash).value !== address) return; // the reader has gone on
  closePicture();
  if (job.error) return tellMissing(job.error, () => fillFormFrom(routeOf(location.hash).query));
  shown = new Viewer(job, Number(address.split("/")[1]), closed);
}

export function closePicture() {
  const before = shown;
  shown = undefined;
  before?.dialog.close();
}

function closed(which) {
  if (shown !== which) return;
  shown = undefined;
  if (routeOf(location.hash).name === "picture") leave();
}

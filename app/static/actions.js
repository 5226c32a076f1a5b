// What can be done with a job that has ended.

import { request } from "./api.js";
import { queryOf } from "./describe.js";
import { save } from "./dom.js";
import { fillForm } from "./form.js";
import { forget, forgetFavourites, recall } from "./saved.js";
import { jobs } from "./store.js";

// Deletes the images of a job on the server, and what this browser knows of them.
export async function deleteJob(job) {
  await request(`${job.links.self}/images`, { method: "DELETE" });
  forgetFavourites(job.id);
  await forget(job.id);
  jobs.put({ ...job, expires_at: new Date(0).toISOString() });
}

// Fills in the form as it was for a job, or for one picture of it.
export async function useSettings(job, index) {
  const sent = await recall(job.id);
  const query = queryOf(job, index);
  if (sent) query.set("fit", sent.fit);
  fillForm(job.kind, query, sent?.files);
}

// Saves all images of a job in one file of this media type.
export async function saveAs(job, type, ending) {
  const response = await request(job.links.image, { headers: { Accept: type } });
  save(await response.blob(), `difuso-${job.id}.${ending}`);
}

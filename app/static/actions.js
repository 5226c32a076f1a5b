// What can be done with a job that has ended, and with its pictures.

import { request } from "./api.js";
import { countOf, fromNoise, queryOf } from "./describe.js";
import { save } from "./dom.js";
import { showForm } from "./drawer.js";
import { chooseKind, chooseModel, fillForm, form } from "./form.js";
import { setFile } from "./inputs.js";
import { models } from "./models.js";
import { notify } from "./notice.js";
import { go } from "./routes.js";
import { forget, forgetFavourites, recall } from "./saved.js";
import { jobs } from "./store.js";
import { t } from "./texts.js";

const leaving = new Map(); // what deletes a job at once, for each whose deletion can be undone

// The words of a button that deletes a job: they say how many pictures go.
export function deleteWords(job) {
  const count = job.links.images ? countOf(job) : 0;
  return count > 1 ? t("deleteAll", count) : t("delete");
}

export const deleteJob = job => deleteJobs([job]);

// Hides jobs, and deletes their images on the server and what this browser knows of them unless that is undone soon.
export function deleteJobs(all) {
  const count = all.reduce((sum, job) => sum + (job.links.images ? countOf(job) : 0), 0);
  const undo = each => {
    leaving.delete(each.id);
    jobs.unhide(each);
  };
  const pass = () => all.forEach(each => forGood(each).catch(error => (undo(each), notify(error.message, { error: true }))));
  all.forEach(each => jobs.hide(each));
  const now = notify(count ? t("deleted", count) : t("deletedJob"), { button: t("undo"), press: () => all.forEach(undo), pass });
  all.forEach(each => leaving.set(each.id, now));
}

async function forGood(job) {
  await request(`${job.links.self}/images`, { method: "DELETE", keepalive: true }); // even if the page is left meanwhile
  leaving.delete(job.id);
  forgetFavourites(job.id);
  await forget(job.id);
  jobs.put({ ...job, expires_at: new Date(0).toISOString() });
}

addEventListener("pagehide", () => [...leaving.values()].forEach(now => now()));

export async function useSettings(job, index) {
  const sent = await recall(job.id);
  const query = queryOf(job, index);
  if (sent) query.set("fit", sent.fit);
  fillForm(job.kind, query, sent?.files);
  if (!models.has(job.model)) notify(t("noModel", job.model));
  else if (fromNoise(job)) notify(t("noiseSent"));
}

export async function saveAs(job, type, ending) {
  const response = await request(job.links.image, { headers: { Accept: type } });
  save(await response.blob(), `difuso-${job.id}.${ending}`);
}

export async function useFile({ kind, input }, file, model) {
  await go("#gallery");
  if (kind === "interpolate") form.querySelector('[data-switch="interpolate"]').value = "pictures";
  chooseKind(kind);
  if (model && [...form.elements.model.options].some(option => option.value === model && !option.disabled)) chooseModel(model);
  setFile(input, file);
  await showForm();
  input.focus();
}

// The jobs that this page knows, and their events: `job` for one that is new or has changed, `preview`, and `back` from hiding.

const ENDS = ["succeeded", "failed", "cancelled"];
export const UNLISTED = "page:unlisted"; // the tag of jobs that no list shows: those of the lesson, and sketches to choose from
const EDITED = /^edit:([0-9a-f-]{36}\/[0-9]{1,2})$/;

// The picture from which a job was changed, as JOB/INDEX, if it was.
export const editedFrom = ({ tag }) => EDITED.exec(tag ?? "")?.[1];
export const isEnded = job => ENDS.includes(job.state);

// Whether there is nothing left to see: the images were or will be deleted, their time is over, or another change came before them.
export const isGone = job => jobs.hidden.has(job.id) || isOver(job) || job.tag === UNLISTED || (job.state === "cancelled" && Boolean(editedFrom(job)));

const isOver = job => isEnded(job) && job.expires_at !== undefined && Date.parse(job.expires_at) <= Date.now();

class Jobs extends EventTarget {
  #all = new Map();
  #gone = new Set(); // the ids of those that an event has reported as gone, or that were gone when they came
  hidden = new Set(); // the ids of those whose deletion can be undone

  get(id) {
    return this.#all.get(id);
  }

  get unfinished() {
    return [...this.#all.values()].filter(job => !isEnded(job));
  }

  // Those of a tag, oldest first.
  tagged(tag) {
    return [...this.#all.values()].filter(job => job.tag === tag).sort((a, b) => a.accepted_at.localeCompare(b.accepted_at));
  }

  // Notes a job, or what has changed of one. A list that was made before the end of a job does not revive it.
  put(news) {
    const before = this.#all.get(news.id);
    if (before && isEnded(before) && !isEnded(news)) return;
    const job = isEnded(news) ? news : { ...before, ...news };
    this.#all.set(job.id, job);
    // Of a job that has ended only its images change: they go. Lists may round its times otherwise than its last event.
    if (isOver(job) && !this.#gone.has(job.id)) this.#gone.add(job.id);
    else if (before && (isEnded(before) || JSON.stringify(before) === JSON.stringify(job))) return;
    this.dispatchEvent(new CustomEvent("job", { detail: job }));
  }

  sweep() {
    for (const job of [...this.#all.values()]) if (isOver(job) && !this.#gone.has(job.id)) this.put(job);
  }

  hide(job) {
    this.hidden.add(job.id);
    this.dispatchEvent(new CustomEvent("job", { detail: job }));
  }

  unhide(job) {
    this.hidden.delete(job.id);
    this.dispatchEvent(new CustomEvent("back", { detail: job }));
  }

  preview(id, index, source) {
    this.dispatchEvent(new CustomEvent("preview", { detail: { id, index, source } }));
  }
}

export const jobs = new Jobs();

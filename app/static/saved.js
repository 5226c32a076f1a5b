// What this browser remembers: favourite pictures, and the files of requests, which the server does not give back.

const FAVOURITES = "difuso-favourites";
const MOST_REQUESTS = 300; // the oldest files are forgotten beyond

const favourites = () => JSON.parse(localStorage.getItem(FAVOURITES) ?? "[]");
export const isFavourite = (id, index) => favourites().includes(`${id}/${index}`);

export function toggleFavourite(id, index) {
  const name = `${id}/${index}`;
  const before = favourites();
  const after = before.includes(name) ? before.filter(each => each !== name) : [name, ...before];
  localStorage.setItem(FAVOURITES, JSON.stringify(after));
  return after.length > before.length;
}

// Returns the ids of the jobs with favourite pictures, those that were chosen last first.
export const favouriteJobs = () => [...new Set(favourites().map(name => name.split("/")[0]))];

export const forgetFavourites = id => localStorage.setItem(FAVOURITES, JSON.stringify(favourites().filter(name => !name.startsWith(`${id}/`))));

const opened = new Promise((resolve, reject) => {
  const opening = indexedDB.open("difuso", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("requests", { keyPath: "id" });
  opening.onsuccess = () => resolve(opening.result);
  opening.onerror = () => reject(opening.error);
});
opened.catch(() => {}); // private windows may have no database; then nothing is remembered

async function requests(mode, action) {
  const store = (await opened).transaction("requests", mode).objectStore("requests");
  return new Promise((resolve, reject) => {
    const asked = action(store);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

// Keeps the files of a request: pairs of a part's name and its file; and how they were fitted.
export async function remember(job, files, fit) {
  const pictures = job.pictures?.map(picture => picture.sha256) ?? [];
  const record = { id: job.id, at: Date.now(), files, fit, pictures: pictures.join() };
  await requests("readwrite", store => store.put(record)).catch(() => {});
  const all = await requests("readonly", store => store.getAll()).catch(() => []);
  for (const { id } of all.sort((a, b) => b.at - a.at).slice(MOST_REQUESTS)) await forget(id);
}

export const recall = id => requests("readonly", store => store.get(id)).catch(() => undefined);
export const forget = id => requests("readwrite", store => store.delete(id)).catch(() => {});

// Returns a request whose fitted pictures have these SHA-256; its files make a picture of that recipe again.
export async function recallByPictures(hashes) {
  const all = await requests("readonly", store => store.getAll()).catch(() => []);
  return all.find(each => each.pictures === hashes.join());
}

// Addresses of what the page shows. #picture=JOB/INDEX and #make, the form of a narrow window, lie over one of the others.
// #make?QUERY fills in the form, and so does the query after a picture once that is gone.

let leaving; // a promise while the browser goes back

// Returns what an address shows, as {name, value, query}.
export function routeOf(hash) {
  const [, name, value, query] = /^#(\w+)(?:=([^?]+))?(?:\?(.+))?$/.exec(hash) ?? [];
  return { name: name ?? "gallery", value, query: new URLSearchParams(query) };
}

// Goes to a view, as a link to it would; resolves when it is shown.
export async function go(hash) {
  await leaving;
  if (location.hash === hash) return;
  location.hash = hash;
  await new Promise(resolve => addEventListener("hashchange", resolve, { once: true }));
}

const addressOf = (id, index) => `#picture=${id}/${index}`;

// Returns a link to a picture that says how it is made again, too.
export const linkOf = ({ id, kind }, index, query) => `${location.origin}${location.pathname}${addressOf(id, index)}?${new URLSearchParams([["kind", kind], ...query])}`;

// Puts an address over that of the view, so that Back closes what it opens.
function enter(address) {
  if (location.hash !== address) history.pushState({ over: true }, "", address); // once, by a double click
  dispatchEvent(new HashChangeEvent("hashchange"));
}

export const enterPicture = (id, index) => enter(addressOf(id, index));

export async function enterForm() {
  await Promise.resolve(); // whoever leaves another address does so first
  await leaving;
  enter("#make");
}

// Names another picture in the address of the open one, with a query how it is made again.
export function turnPicture(job, index, query) {
  if (routeOf(location.hash).name === "picture") history.replaceState(history.state, "", query ? linkOf(job, index, query) : addressOf(job.id, index));
}

// Leaves an address for the view under it, or else for the gallery. Back does not return to it.
export function leave() {
  if (!history.state?.over) {
    history.replaceState(null, "", "#gallery");
    return dispatchEvent(new HashChangeEvent("hashchange"));
  }
  leaving = new Promise(resolve => addEventListener("popstate", resolve, { once: true })).then(() => (leaving = undefined));
  history.back();
}

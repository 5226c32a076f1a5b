// Addresses of what the page shows: #gallery, #grid, #grid=TAG, and #picture=JOB/INDEX, which lies over one of the others.

let leaving; // a promise while the browser goes back

// Returns what an address shows, as {name, value}.
export function routeOf(hash) {
  const [, name, value] = /^#(\w+)(?:=(.+))?$/.exec(hash) ?? [];
  return { name: name ?? "gallery", value };
}

// Goes to a view, as a link to it would.
export async function go(hash) {
  await leaving;
  if (location.hash !== hash) location.hash = hash;
}

const addressOf = (id, index) => `#picture=${id}/${index}`;

// Puts the address of a picture over that of the view, so that Back closes it.
export function enterPicture(id, index) {
  history.pushState({ over: true }, "", addressOf(id, index));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

// Names another picture in the address of the open one.
export function turnPicture(id, index) {
  if (routeOf(location.hash).name === "picture") history.replaceState(history.state, "", addressOf(id, index));
}

// Goes back to the view under a picture; to the gallery if the visit began with the picture.
export function leavePicture() {
  if (routeOf(location.hash).name !== "picture") return;
  if (!history.state?.over) return history.replaceState(null, "", "#gallery");
  leaving = new Promise(resolve => addEventListener("popstate", resolve, { once: true })).then(() => (leaving = undefined));
  history.back();
}

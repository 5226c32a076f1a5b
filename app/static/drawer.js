// The form where the window is too narrow for it to stand beside the pictures: a sheet that comes from below by one button.

import { $, complain, openDialog } from "./dom.js";
import { notify } from "./notice.js";
import { enterForm, leave, routeOf } from "./routes.js";
import { t } from "./texts.js";

const NARROW = matchMedia("(max-width: 48rem)");
const form = $("form");
export let sheet; // the dialog that holds the form
export const showForm = async () => (NARROW.matches ? enterForm() : form.scrollIntoView({ block: "start" }));
export const hideForm = () => sheet && leave();

// Says an error at the form, and where the form is not seen also at the edge of the window; null takes it back.
export function alarm(error) {
  const isNew = error && error.message !== $("error").textContent;
  complain($("error"), error);
  if (isNew && !form.checkVisibility()) notify(error.message, { error: true });
}

// Follows the address: Back closes the sheet, and a reload opens it again.
function follow() {
  const { name, query } = routeOf(location.hash);
  if (!NARROW.matches || name !== "make" || query.size) return sheet?.close();
  if (sheet) return undefined;
  sheet = openDialog("sheet", t("makeForm"), t("close"), form);
  sheet.addEventListener("close", () => {
    sheet = undefined;
    document.querySelector("main").prepend(form);
    if (routeOf(location.hash).name === "make") leave();
  });
  return fit();
}

// Keeps the sheet above the keyboard of a phone, which covers the window without making it smaller.
function fit() {
  const { height, offsetTop } = visualViewport;
  sheet?.style.setProperty("--seen", `${height}px`);
  sheet?.style.setProperty("--covered", `${Math.max(0, innerHeight - height - offsetTop)}px`);
}

export function startDrawer() {
  $("open").addEventListener("click", showForm);
  addEventListener("hashchange", follow);
  NARROW.addEventListener("change", follow);
  for (const event of ["resize", "scroll"]) visualViewport.addEventListener(event, fit);
  follow();
}

// Fields for files: a thumbnail of what was chosen, dropping, pasting, and the camera of a phone.

import { loaded, request } from "./api.js";
import { $, complain, el } from "./dom.js";
import { sidesOf } from "./models.js";
import { notify } from "./notice.js";
import { t, translate } from "./texts.js";

export const ADDRESS = "application/x-difuso"; // the type of a picture of the page that is dragged
const TYPES = ["image/png", "image/jpeg"];
export const ARRAY = ".npy"; // which the server reads, too; a field that accepts nothing else is for no picture
const shrinking = new Set(); // promises of photographs that are made smaller

// Resolves when the files of all fields are as they will be sent.
export const settled = () => Promise.all(shrinking);

// Gives each field for a picture its thumbnail and buttons.
export function dressInputs(form) {
  for (const input of form.querySelectorAll("input[type=file]:not(.dressed)")) dress(input);
}

function dress(input) {
  input.accept ||= [...TYPES, ARRAY].join();
  input.classList.add("dressed");
  const zone = el("span", { className: "drop" });
  const words = el("span", { className: "drop-words", dataset: { t: "choose" } });
  const name = el("span", { className: "drop-words", hidden: true });
  const picture = el("img", { alt: "", hidden: true });
  const remove = el("button", { type: "button", className: "small", hidden: true, dataset: { t: "remove" } });
  const camera = el("button", { type: "button", className: "small camera", hidden: input.accept === ARRAY, dataset: { t: "camera" }, onclick: () => shot.click() });
  const shot = el("input", { type: "file", accept: "image/*", hidden: true, capture: "environment" });
  shot.addEventListener("change", () => shot.files[0] && setFile(input, shot.files[0]));
  remove.addEventListener("click", () => setFile(input, null));
  const label = input.closest("label");
  const frame = el("div", { className: "part" });
  label.before(frame);
  input.before(zone);
  zone.append(picture, words, name, input);
  frame.append(label, el("span", { className: "drop-tools" }, camera, remove));
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.hidden = remove.hidden = !file;
    words.hidden = Boolean(file);
    name.hidden = true;
    if (file) picture.src = URL.createObjectURL(file);
    else picture.removeAttribute("src");
    input.dispatchEvent(new CustomEvent("picture", { bubbles: true }));
    if (file) shrink(input, file);
  });
  picture.addEventListener("error", () => { // arrays, and what is no picture
    name.textContent = input.files[0]?.name;
    [picture.hidden, name.hidden] = [true, false];
  });
  zone.addEventListener("dragover", event => (event.preventDefault(), zone.classList.add("over")));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", async event => {
    event.preventDefault();
    event.stopPropagation();
    zone.classList.remove("over");
    const file = await fileOf(event.dataTransfer).catch(error => void notify(error.message, { error: true }));
    if (file) setFile(input, file);
  });
  translate(frame);
}

// Puts a smaller file in the place of one that the server would refuse.
function shrink(input, file) {
  const work = shrunk(file)
    .then(smaller => smaller !== file && input.files[0] === file && setFile(input, smaller))
    .finally(() => shrinking.delete(work));
  shrinking.add(work);
}

// Puts a file into a field, as if it had been chosen; null empties it.
export function setFile(input, file) {
  if (!input) return;
  const transfer = new DataTransfer();
  if (file) transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

export function clearFiles(form) {
  for (const input of form.querySelectorAll("input.dressed")) if (input.files.length) setFile(input, null);
}

// Resolves to the picture in what was dropped or pasted: a picture of this page, or a file.
export async function fileOf(transfer) {
  const address = transfer.getData(ADDRESS);
  if (address) return fetchFile(...JSON.parse(address));
  const files = [...transfer.files];
  return files.find(file => TYPES.includes(file.type)) ?? files[0];
}

// Fetches a picture of the server; with the key instead of the link's signature, whose time may be over.
export const fetchFile = async (path, name) => new File([await (await request(path.split("?")[0])).blob()], name, { type: "image/png" });

// The places that a picture can be used for: the name of the kind, the field, and words for both.
export function placesOf(form) {
  const offered = [...form.querySelector("#kind").options].filter(option => !option.hidden);
  const titles = new Map(offered.map(option => [option.value, option.textContent]));
  const kindOf = input => input.closest("#form > fieldset[data-when]");
  return [...form.querySelectorAll("input.dressed")]
    .filter(input => input.name !== "mask" && titles.has(kindOf(input)?.dataset.when))
    .map(input => {
      const kind = kindOf(input);
      const words = input.closest("label").firstElementChild.textContent;
      const alone = kind.querySelectorAll("input.dressed:not([name=mask])").length === 1;
      const title = titles.get(kind.dataset.when);
      return { kind: kind.dataset.when, input, text: alone ? title : `${title}: ${words}` };
    });
}

// The first visible field that wants a picture and has none.
export const emptyInput = form =>
  [...form.querySelectorAll("input.dressed")].find(input => !input.matches(":disabled") && !input.files.length && input.accept !== ARRAY);

// Offers a brush for the mask as soon as there is a picture, and explains a missing mask.
export function startMask(form) {
  const button = $("paint");
  const image = form.querySelector('[data-when="restore"] [name=image]');
  const mask = form.querySelector("[name=mask]");
  const show = () => {
    button.disabled = !image.files.length;
    button.dataset.t = mask.files.length ? "repaint" : "paint";
    button.textContent = t(button.dataset.t);
  };
  const paint = async () => {
    const sides = form.elements.fit.value === "cover" ? sidesOf(form.elements.model.value) : undefined;
    await (await loaded("./mask.js")).openMask(image.files[0], sides, file => setFile(mask, file));
  };
  form.addEventListener("picture", show);
  button.addEventListener("click", () => paint().catch(error => complain($("error"), error)));
  mask.addEventListener("invalid", () => mask.setCustomValidity(mask.files.length ? "" : t("maskNeeded")));
  mask.addEventListener("change", () => mask.setCustomValidity(""));
}

const MOST_PIXELS = 2048 * 2048; // that the server decodes: jobs/images/fitting.py
const MOST_SIDE = 8192;
const MOST_BYTES = 2 ** 22; // two of them fit into a request
const SMALLER = 2 ** 20; // pixels: many more than any model draws, and as a PNG few enough bytes

// Resolves to a file that the server takes, upright; to the same file if it takes that, or if it is not a picture.
export async function shrunk(file) {
  if (!file.type.startsWith("image/")) return file;
  const bitmap = await createImageBitmap(file).catch(() => undefined);
  if (!bitmap) return file; // the server says what is wrong with it
  const { width, height } = bitmap;
  if (width * height <= MOST_PIXELS && Math.max(width, height) <= MOST_SIDE && file.size <= MOST_BYTES) return file;
  const scale = Math.min(1, Math.sqrt(SMALLER / (width * height)), MOST_SIDE / Math.max(width, height));
  const [across, down] = [width, height].map(side => Math.max(1, Math.round(side * scale)));
  const canvas = el("canvas", { width: across, height: down });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, across, down);
  const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  return new File([blob], file.name.replace(/\.\w+$/, "") + ".png", { type: "image/png", lastModified: file.lastModified });
}

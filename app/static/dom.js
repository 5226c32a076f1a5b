// Making elements, and small helpers around them.

// Returns an element. Properties with a hyphen, and `role`, are attributes; `dataset` is merged.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter(child => child !== undefined && child !== null && child !== false));
  return element;
}

// Returns an element of a drawing; all of its properties are attributes.
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Returns an option of a menu whose words are in the language of the page.
export const option = (text, value) => el("option", { value, dataset: { t: text } });

// Offers other choices in a menu. The chosen one stays if it is among them.
export function offer(menu, ...options) {
  const { value } = menu;
  menu.replaceChildren(...options);
  if (options.some(each => each.value === value)) menu.value = value;
}

// Returns what a click on a link does here; with a key held the browser opens it elsewhere.
export const here = action => event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  action();
};

// Returns what draws sharp pixels on a new canvas.
export function brushOf(width, height, properties) {
  const context = el("canvas", { width, height, ...properties }).getContext("2d");
  context.imageSmoothingEnabled = false;
  return context;
}

const LARGE = 128; // pixels
export const $ = id => document.getElementById(id);

export function complain(element, error) {
  element.textContent = error?.message ?? "";
  element.hidden = !error;
  element.dataset.type = error?.type ?? ""; // a server that is back takes back that it was lost
}

// Runs an action, and says its error; null takes back what was said before.
export const attempt = (say, action) => Promise.resolve().then(action).then(() => say(null), say);

// Runs what a button does, but not for the second click of a double click: by then another button may lie under the pointer.
export const once = (event, action) => (event.detail < 2 ? action() : undefined);

export function save(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser reads it after the click has returned
}

// Returns the whole multiple of a picture's size that comes next to a wanted size, so that pixels stay sharp.
export const multiple = (size, wanted) => size * Math.max(1, Math.round(wanted / size));

// Returns the step between the sizes in which a picture is shown: its side, or a half or a quarter of a large one.
export function grainOf(side) {
  let grain = side;
  while (grain >= LARGE && grain % 2 === 0) grain /= 2;
  return grain;
}

// Opens a dialog of this content. Escape, the button and a click outside it close it; then it is gone.
export function openDialog(className, label, close, ...content) {
  const dialog = el("dialog", { className, "aria-label": label, tabIndex: -1 });
  const button = el("button", { type: "button", className: "close", "aria-label": close, textContent: "✕", onclick: () => dialog.close() });
  dialog.append(button, ...content);
  closeOutside(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// Closes a dialog by a click outside it. A selection of text that begins or ends inside is not one.
function closeOutside(dialog) {
  let began = false; // outside
  const isOutside = ({ clientX: x, clientY: y, target }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    return target === dialog && (x < left || x > right || y < top || y > bottom);
  };
  dialog.addEventListener("pointerdown", event => (began = isOutside(event)));
  dialog.addEventListener("click", event => began && isOutside(event) && dialog.close());
}

// Puts children into an element and lets be those that stay: they keep the focus, and the click that is on its way.
export function arrange(place, children) {
  for (const each of [...place.children]) if (!children.includes(each)) each.remove();
  children.forEach((each, at) => place.children[at] !== each && place.insertBefore(each, place.children[at] ?? null));
}

// Puts other content into a part of the page. The focus goes to the button with the same words, or else to the dialog.
export function refill(part, ...content) {
  const held = part.contains(document.activeElement) && document.activeElement;
  part.replaceChildren(...content);
  if (!held) return;
  const same = [...part.querySelectorAll("button")].find(each => each.textContent === held.textContent && !each.disabled);
  (same ?? part.closest("dialog"))?.focus();
}

export const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

export function debounced(milliseconds, action) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

// Lets a slider stand at what was asked for, between its steps, until the reader moves it.
export function takeAny(slider) {
  const { step } = slider;
  if (step === "any") return;
  slider.step = "any";
  slider.addEventListener("input", () => (slider.step = step), { once: true, capture: true }); // before others read its value
}

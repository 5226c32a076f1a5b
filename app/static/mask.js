// A brush over a picture, for the part that a restoration fills in: white strokes on black become the mask.

import { el, openDialog } from "./dom.js";
import { t } from "./texts.js";

const ROOM = 512; // CSS pixels, at most
const painted = new WeakMap(); // the strokes over each picture

// Opens the brush for a picture that will be cropped to `sides`, if they are given, and calls `use` with the file of the mask.
export async function openMask(picture, sides, use) {
  const bitmap = await createImageBitmap(picture).catch(() => {
    throw new Error(t("notPicture"));
  });
  if (!painted.has(picture)) painted.set(picture, []);
  new Brush(bitmap, sides && keptOf(bitmap, sides), use, painted.get(picture));
}

// Returns the part that the server keeps of a picture, [x, y, width, height], in its middle; undefined if that is nearly all.
function keptOf({ width, height }, [across, down]) {
  const scale = Math.min(width / across, height / down);
  const [x, y] = [(width - across * scale) / 2, (height - down * scale) / 2];
  return Math.max(x, y) < 1 ? undefined : [x, y, across * scale, down * scale];
}

class Brush {
  #strokes; // each is {erase, points: [x, y, width]}, in pixels of the picture
  #erase = false;
  #undo = () => (this.#strokes.pop(), this.#draw());

  constructor(bitmap, kept, use, strokes) {
    this.kept = kept;
    this.use = use;
    this.#strokes = strokes;
    const { width, height } = bitmap;
    const room = Math.min(ROOM, innerWidth - 64, innerHeight - 260) / Math.max(width, height);
    const scale = room >= 1 ? Math.floor(room) : room;
    this.canvas = el("canvas", { width, height, tabIndex: 0, role: "img", "aria-label": `${t("paint")}. ${t("maskHelp")}` });
    this.mask = el("canvas", { width, height });
    this.canvas.style.width = `${width * scale}px`;
    this.bitmap = bitmap;
    this.size = el("input", { type: "range", min: 1, max: Math.ceil(Math.max(width, height) / 3), value: Math.ceil(Math.max(width, height) / 10) });
    this.at = [width / 2, height / 2]; // of the brush that keys move
    const tool = (key, action) => el("button", { type: "button", className: `small ${key}`, textContent: t(key), onclick: action });
    this.brush = tool("brush", () => this.#choose(false));
    this.eraser = tool("erase", () => this.#choose(true));
    const done = el("button", { type: "button", className: "main", textContent: t("useMask"), onclick: () => this.#done() });
    const size = el("label", { className: "size" }, el("span", { textContent: t("size") }), this.size);
    const tools = el("div", { className: "tools" }, this.brush, this.eraser, size, tool("undo", this.#undo), tool("clear", () => ((this.#strokes.length = 0), this.#draw())));
    const help = el("p", { className: "hint", textContent: [kept && t("maskCropped"), t("maskHelp")].filter(Boolean).join(" ") });
    this.dialog = openDialog("mask", t("paint"), t("close"), el("h2", { textContent: t("paint") }), this.canvas, tools, help, done);
    this.canvas.addEventListener("pointerdown", event => this.#down(event));
    this.canvas.addEventListener("pointermove", event => this.#move(event));
    this.dialog.addEventListener("keydown", event => this.#key(event));
    this.#choose(false);
    this.#draw();
    this.canvas.focus();
  }

  #choose(erase) {
    this.#erase = erase;
    this.brush.ariaPressed = String(!erase);
    this.eraser.ariaPressed = String(erase);
  }

  // A pen draws as wide as it is pressed; mouse and fingers have no pressure of their own.
  #pointOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    const pressure = event.pointerType === "pen" && event.pressure ? 0.3 + 0.7 * event.pressure : 1;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale, this.size.valueAsNumber * pressure];
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.#strokes.push({ erase: this.#erase || (event.buttons & 32) > 0, points: [this.#pointOf(event)] }); // 32: a pen's eraser
    this.#draw();
  }

  #move(event) {
    if (!event.buttons || !event.isPrimary || !this.canvas.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    this.#strokes.at(-1).points.push(...(all.length ? all : [event]).map(each => this.#pointOf(each)));
    this.#draw();
  }

  #key(event) {
    const undo = (event.ctrlKey || event.metaKey) && event.key === "z";
    if (undo) this.#undo();
    else if (event.target !== this.canvas) return;
    else if (event.key === " ") this.#strokes.push({ erase: this.#erase, points: [[...this.at, this.size.valueAsNumber]] });
    else if (event.key.startsWith("Arrow")) {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const step = Math.max(1, this.size.valueAsNumber / 2);
      const limits = [this.canvas.width, this.canvas.height];
      this.at = this.at.map((value, axis) => Math.min(limits[axis], Math.max(0, value + by[axis] * step)));
      this.keys = true; // now the brush is shown
    } else return;
    event.preventDefault();
    this.#draw();
  }

  #draw() {
    const mask = this.mask.getContext("2d");
    mask.clearRect(0, 0, this.mask.width, this.mask.height);
    Object.assign(mask, { lineCap: "round", lineJoin: "round", strokeStyle: "white" });
    for (const { erase, points } of this.#strokes) {
      mask.globalCompositeOperation = erase ? "destination-out" : "source-over";
      points.forEach(([x, y, width], index) => {
        const [fromX, fromY] = points[Math.max(0, index - 1)];
        mask.lineWidth = width;
        mask.beginPath();
        mask.moveTo(fromX, fromY);
        mask.lineTo(x + 0.01, y); // a line without length would draw nothing
        mask.stroke();
      });
    }
    const view = this.canvas.getContext("2d");
    view.globalAlpha = 1;
    view.drawImage(this.bitmap, 0, 0);
    view.globalAlpha = 0.75;
    view.drawImage(this.#coloured("#d6249f", "source-in"), 0, 0); // which is seen on light and dark pictures
    if (this.kept) {
      view.beginPath();
      view.rect(0, 0, this.canvas.width, this.canvas.height);
      view.rect(...this.kept);
      view.fill("evenodd");
    }
    view.globalAlpha = 1;
    if (this.keys) {
      view.strokeStyle = "#4338ca";
      view.beginPath();
      view.arc(...this.at, Math.max(1, this.size.valueAsNumber / 2), 0, 2 * Math.PI);
      view.stroke();
    }
  }

  // Returns the strokes with a colour in them, or behind them.
  #coloured(fillStyle, globalCompositeOperation) {
    const canvas = el("canvas", { width: this.mask.width, height: this.mask.height });
    const context = canvas.getContext("2d");
    context.drawImage(this.mask, 0, 0);
    Object.assign(context, { globalCompositeOperation, fillStyle }).fillRect(0, 0, canvas.width, canvas.height);
    return canvas;
  }

  // Lays the strokes on black: the server takes transparent pixels of a mask for missing ones.
  async #done() {
    const whole = this.#coloured("black", "destination-over");
    const blob = await new Promise(resolve => whole.toBlob(resolve, "image/png"));
    this.use(new File([blob], "mask.png", { type: "image/png" }));
    this.dialog.close();
  }
}

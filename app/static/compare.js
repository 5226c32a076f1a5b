// Before and after: what the browser sent beside what came of it.

import { addressOf, nameOf } from "./describe.js";
import { el, multiple } from "./dom.js";
import { drawnBy, sidesOf, sizeOf } from "./models.js";
import { recall } from "./saved.js";
import { t } from "./texts.js";

const WIDE = 384; // CSS pixels, about

// Resolves to whether there is something to compare: this browser sent the picture that the job was made from.
export async function comparable(job) {
  const image = new Map((await recall(job.id))?.files).get("image");
  return Boolean(image?.type.startsWith("image/")); // arrays cannot be drawn here
}

export async function compareOf(job, index) {
  const request = await recall(job.id);
  const files = new Map(request.files);
  const size = sizeOf(drawnBy(job));
  const before = await measured(job, files, request.fit, sidesOf(drawnBy(job)));
  const after = el("img", { src: addressOf(job, index), alt: `${t("after")}, ${nameOf(job, index)}` });
  const frame = dividedBy(before, after);
  frame.style.setProperty("--tile", `${multiple(size, Math.min(WIDE, innerWidth - 64))}px`);
  const names = el("div", { className: "scale" }, el("span", { textContent: t("before") }), el("span", { textContent: t("after") }));
  return el("div", { className: "tool" }, frame, names);
}

// Draws what the model was given: the picture at its size, without what the restoration was asked to add.
async function measured({ task }, files, fit, [width, height]) {
  const canvas = el("canvas", { width, height, role: "img", "aria-label": t("before") });
  const context = canvas.getContext("2d");
  const factor = task.task === "superres" ? task.factor : 1;
  const small = el("canvas", { width: width / factor, height: height / factor });
  const brush = small.getContext("2d");
  brush.imageSmoothingQuality = "high";
  if (task.task === "colorize") brush.filter = "grayscale(1)";
  brush.fillStyle = "white";
  brush.fillRect(0, 0, small.width, small.height);
  await lay(brush, files.get("image"), fit);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, width, height);
  if (files.has("mask")) {
    const mask = el("canvas", { width, height });
    const marked = mask.getContext("2d");
    await lay(marked, files.get("mask"), fit);
    const [pixels, holes] = [context, marked].map(each => each.getImageData(0, 0, width, height));
    for (let at = 0; at < holes.data.length; at += 4) if (holes.data[at] >= 128) pixels.data.set([136, 136, 136, 255], at);
    context.putImageData(pixels, 0, 0);
  }
  return canvas;
}

// Draws a file into a canvas as the server fits it: cropped or padded.
async function lay(context, file, fit) {
  const { width: across, height: down } = context.canvas;
  const bitmap = await createImageBitmap(file);
  const scale = Math[fit === "contain" ? "min" : "max"](across / bitmap.width, down / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (across - width) / 2, (down - height) / 2, width, height);
}

export function dividedBy(before, after) {
  before.className = "before";
  const slider = el("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": t("divider") });
  const frame = el("div", { className: "compare" }, after, before, el("span", { className: "divider" }), slider);
  const divide = () => frame.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", divide);
  divide();
  return frame;
}

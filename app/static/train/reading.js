// What was dropped, read before it is sent: the pictures of a zip archive, or pictures, and their folders, which become classes.

import { el } from "../dom.js";
import { t } from "../texts.js";
import { entriesOf } from "../unzip.js";

const PICTURE = /\.(png|jpe?g|webp|bmp)$/i; // jobs/trainings/pictures.py
const APPLE = /\.(heic|heif|avif)$/i;
const ZIP = /\.zip$/i;
const HIDDEN = /^__MACOSX\/|(^|\/)(Thumbs\.db|desktop\.ini|\.[^/]*)$/; // what systems add by themselves
const [SHOWN, SIDE] = [48, 64];

// Resolves to the files of what was dropped, also in folders, each as {name, file}; its name is its path.
export const dropped = async ({ items }) => (await Promise.all([...items].map(item => item.webkitGetAsEntry()).filter(Boolean).map(filesIn))).flat();

async function filesIn(entry) {
  if (entry.isFile) return { name: entry.fullPath.slice(1), file: await new Promise((resolve, reject) => entry.file(resolve, reject)) };
  const [reader, found] = [entry.createReader(), []];
  for (let some; some?.length !== 0; found.push(...some)) some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at most
  return (await Promise.all(found.map(filesIn))).flat();
}

// Resolves to {name, file, pictures, others, twice, count, classes}: `file` is the archive, if it is one; of the pictures each
// {name, same, open} can be opened; `others` are left out, and `twice` are in it more than once.
export async function read(files) {
  const [{ name: first, file }] = files;
  const archive = files.length === 1 && ZIP.test(first) && file;
  const all = archive ? await entriesOf(archive) : files.map(({ name, file }) => ({ name, same: file, open: async () => file }));
  const seen = all.filter(({ name }) => !name.endsWith("/") && !HIDDEN.test(name));
  const pictures = seen.filter(({ name }) => PICTURE.test(name));
  const others = seen.filter(each => !pictures.includes(each)).map(({ name }) => ({ name, reason: t(APPLE.test(name) ? "trainHeic" : ZIP.test(name) ? "trainNested" : "trainNoPicture") }));
  const known = new Set();
  const single = pictures.filter(({ same }) => !known.has(same) && known.add(same));
  return { name: archive ? first.slice(0, -4) : first.split("/").slice(0, -1)[0] ?? "", file: archive, others, twice: pictures.length - single.length, ...counted(single) };
}

function counted(pictures) {
  const classes = {};
  for (const folder of pictures.map(({ name }) => name.split("/").at(-2)).filter(Boolean).sort()) classes[folder] = (classes[folder] ?? 0) + 1;
  return { pictures, count: pictures.length, classes };
}

// Fills an element with some of the pictures, from all over the archive, as they are cropped; leaves out those that cannot be read.
export async function preview(found, place) {
  const { pictures } = found;
  const count = Math.min(SHOWN, pictures.length);
  const damaged = [];
  for (let index = 0; index < count; index++) {
    const picture = pictures[Math.floor((index * pictures.length) / count)];
    try {
      const bitmap = await createImageBitmap(await picture.open()); // one at a time: photographs are large
      const side = Math.min(bitmap.width, bitmap.height);
      const canvas = el("canvas", { width: SIDE, height: SIDE });
      canvas.getContext("2d").imageSmoothingQuality = "high";
      canvas.getContext("2d").drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
      bitmap.close();
      place.append(canvas);
    } catch {
      damaged.push(picture);
    }
  }
  found.others.push(...damaged.map(({ name }) => ({ name, reason: t("trainDamaged") })));
  Object.assign(found, counted(pictures.filter(each => !damaged.includes(each))));
}

// What the lesson is about at a moment: a picture of a model, the noise of a seed, and a timestep.

import { ask, request } from "../api.js";
import { floatsOf, paint } from "../arrays.js";
import { el, multiple } from "../dom.js";
import { defaultModel, models, sidesOf, sizeOf, teachable } from "../models.js";
import { cellsOf } from "../sheets.js";
import { language } from "../texts.js";
import { noiseOf } from "./noise.js";

const [WIDE, NARROW] = [192, 144]; // CSS pixels of a picture, about
const START = 0.35; // of all timesteps: much noise, and still much picture
export const digits = value => value.toLocaleString(language, { maximumSignificantDigits: 3 });
export const sharesOf = alpha => [Math.sqrt(alpha), Math.sqrt(1 - alpha)]; // of the picture and of the noise
const weightOf = ({ name, channels, parameters }) => sidesOf(name).reduce((a, b) => a * b, channels) * parameters;

// Returns the name of a model of the lesson that can do something: the default one, or else the smallest; undefined if none can.
const rankOf = model => (model.name === defaultModel ? 0 : weightOf(model));
export const modelThat = (can = () => true) => teachable().filter(({ name }) => can(name)).toSorted((a, b) => rankOf(a) - rankOf(b))[0]?.name;

export class Scene {
  seed = 0;

  constructor(model, alphas = []) {
    this.model = model;
    this.alphas = alphas; // ᾱ of each timestep
    this.timestep = Math.round(START * (alphas.length - 1));
    this.channels = models.get(model).channels;
    [this.width, this.height] = sidesOf(model);
  }

  static async of(model) {
    return new Scene(model, (await ask("GET", `/models/${model}/schedule`)).alphas_cumprod);
  }

  async choose(canvas) {
    this.canvas = canvas;
    this.picture = await new Promise(resolve => canvas.toBlob(resolve));
    this.x0 = floatsOf(canvas.getContext("2d"), this.channels);
  }

  get noise() {
    if (this.drawn?.seed !== this.seed) this.drawn = { seed: this.seed, noise: noiseOf(this.seed, [this.channels, this.height, this.width]) };
    return this.drawn.noise;
  }

  // Returns the picture after it went into the noise, x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε.
  noised(alphas = this.alphas) {
    const { x0, noise } = this;
    const [ofPicture, ofNoise] = sharesOf(alphas[this.timestep]);
    return x0.map((value, index) => ofPicture * value + ofNoise * noise[index]);
  }

  figure(name, caption) {
    const { width, height } = this;
    const canvas = el("canvas", { width, height, role: "img", "aria-label": caption, dataset: { shows: name } });
    const size = sizeOf(this.model);
    canvas.style.width = `${(multiple(size, matchMedia("(max-width: 64rem)").matches ? NARROW : WIDE) / size) * width}px`;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const element = el("figure", {}, canvas, el("figcaption", { textContent: caption }));
    return { element, paint: data => paint(context, data, this.channels) };
  }
}

const MOST = 6; // pictures to begin with, of the model's sheet and of the gallery each

// Returns a canvas of the model's size with a picture on it.
export function canvasOf(model, bitmap) {
  const [width, height] = sidesOf(model);
  const canvas = el("canvas", { width, height });
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  return canvas;
}

export const read = async (model, path) => canvasOf(model, await createImageBitmap(await (await request(path)).blob()));

export async function picturesOf(model) {
  const { jobs } = await ask("GET", `/jobs?limit=20&state=succeeded&kind=generate&model=${model}`);
  const alive = jobs.filter(job => job.links.images && !job.task?.upscale && Date.parse(job.expires_at) > Date.now());
  const paths = alive.flatMap(job => job.links.images).slice(0, MOST);
  const found = await Promise.allSettled(paths.map(path => read(model, path)));
  return [...(await cellsOf(model, MOST)), ...found.flatMap(({ value }) => value ?? [])];
}

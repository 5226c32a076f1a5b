// The texts of the page in the reader's language: the browser's, unless the reader has chosen another.

const KEY = "difuso-language";
const LANGUAGES = ["en", "es"];
const folders = ["texts"]; // where the texts are: one module for each language
const styles = new Map(); // a promise of each part's
const failures = new Map(); // how often each module could not be loaded
export let language = pick();
let texts = await read(language);

function pick() {
  const wanted = [localStorage.getItem(KEY), ...navigator.languages.map(tag => tag.slice(0, 2))];
  return wanted.find(each => LANGUAGES.includes(each)) ?? LANGUAGES[0];
}

// Imports a module; after a failure by another address, because browsers remember that of the first.
export async function imported(path) {
  const times = failures.get(path) ?? 0;
  try {
    return await import(times ? `${path}?${times}` : path);
  } catch (error) {
    failures.set(path, times + 1);
    throw error;
  }
}

async function read(chosen) {
  const modules = await Promise.all(folders.map(folder => imported(`./${folder}/${chosen}.js`)));
  return Object.assign({}, ...modules.map(module => module.default));
}

// Adds the texts and the style of a part of the page that is loaded when it is opened.
export async function addPart(folder) {
  if (!folders.includes(folder)) folders.push(folder);
  if (!styles.has(folder)) styles.set(folder, styled(folder));
  const asked = language;
  const [found] = await Promise.all([read(asked), styles.get(folder)]);
  if (asked === language) texts = found;
}

function styled(folder) {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    const fail = () => (link.remove(), styles.delete(folder), reject(new Error(folder))); // the next visit tries again
    Object.assign(link, { rel: "stylesheet", href: `/static/${folder}/${folder}.css`, onload: resolve, onerror: fail });
    document.head.append(link);
  });
}

// Returns a text; those with numbers or names in them are functions.
export function t(key, ...values) {
  const text = texts[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  return typeof text === "function" ? text(...values) : text;
}

// Returns the text if there is one: kinds and tasks that a server adds have none.
export const known = (key, otherwise) => texts[key] ?? otherwise;

export const number = (value, digits = 0) => value.toLocaleString(language, { maximumFractionDigits: digits, minimumFractionDigits: digits });

// Returns a value as a reader takes it in: a number in a few digits, a word as it is.
export const shown = value => (typeof value === "number" ? value.toLocaleString(language, { maximumSignificantDigits: 4 }) : value);
export const labels = new Map(); // the words of each model for its conditions and their values, by language
const own = (table, key) => (table && Object.hasOwn(table, key) ? table[key] : undefined);

// Returns the name of a model's condition, or of one of its values, in the reader's language, or as it is if the model has no word.
export function word(model, name, value) {
  const words = own(own(labels.get(model), language), name);
  return (value === undefined ? words?.name : own(words?.values, value)) ?? (value ?? name).replaceAll("_", " ");
}

// Lets a long name break where its words meet: HerbaceousVegetation.
export const breakable = name => name.replace(/(?<=\p{Ll})(?=\p{Lu})/gu, "\u200b");

export function moment(text) {
  const date = new Date(text);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(language, { timeStyle: "short", ...(today ? {} : { dateStyle: "short" }) });
}

// Returns a duration for people: 45 ms, 0.8 s, 12 s, 3 min, 1.5 h; the number and its unit stay on one line.
export function duration(seconds) {
  if (seconds < 0.1) return `${number(Math.round(seconds * 1000))}\u00a0ms`;
  if (seconds < 90) return `${number(seconds, seconds < 10 ? 1 : 0)}\u00a0s`;
  if (seconds < 5400) return `${number(Math.round(seconds / 60))}\u00a0min`;
  return `${number(seconds / 3600, seconds % 3600 && seconds < 36_000 ? 1 : 0)}\u00a0h`;
}

// Fills in the elements that name their text: `data-t` and `data-word` are the content, `data-t-label` and the others attributes.
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.model, element.dataset.word, element.dataset.value);
  for (const element of root.querySelectorAll("[data-t-label]")) element.ariaLabel = t(element.dataset.tLabel);
  for (const element of root.querySelectorAll("[data-t-hint]")) element.placeholder = t(element.dataset.tHint);
  for (const element of root.querySelectorAll("[data-t-title]")) element.title = t(element.dataset.tTitle);
}

let asked; // the language that was chosen last

// Changes the language for good. Those who made texts of their own hear of it by the event `language`.
export async function speak(chosen) {
  asked = chosen;
  const found = await read(chosen);
  if (chosen !== asked) return; // another was chosen meanwhile
  texts = found;
  language = chosen;
  localStorage.setItem(KEY, chosen);
  document.documentElement.lang = chosen;
  translate(document);
  document.dispatchEvent(new Event("language"));
}

// The plots of a model: the curves of its training, and how good its pictures are for how much time.

import { request } from "../api.js";
import { el } from "../dom.js";
import { fillForm, form } from "../form.js";
import { priceOf } from "../making.js";
import { fromPicture, leastOf, models } from "../models.js";
import { drawingOf, ticksOf } from "../plot.js";
import { duration, language, number, shown, t } from "../texts.js";

const NO_FIGURES = ["step", "skipped"];
const POINTS = 500; // of a line, at most
const MOST = 0.99; // smoothing
const DIGITS = 2; // of the numbers at an axis
const WIDE = 10; // how many times as large as the least the greatest is, from which on the axis is logarithmic

export async function curvesOf(name) {
  const logs = new Map([[name, await logOf(name)]]);
  const figures = [...new Set(logs.get(name).flatMap(Object.keys))].filter(figure => !NO_FIGURES.includes(figure));
  if (!figures.length) return undefined;
  const others = [...models.values()].filter(each => each.name !== name && each.documents?.includes("metrics")).map(each => each.name);
  const [figure, other] = [figures, ["", ...others]].map(names => el("select", {}, ...names.map(each => new Option(each ? (t("cardFigures")[each] ?? each) : t("cardNone"), each))));
  const smoothing = el("input", { type: "range", min: 0, max: MOST, step: 0.01, value: 0.6 });
  const place = el("input", { type: "range", min: 0, max: 1, step: "any", value: 1, "aria-label": t("cardStep") });
  const [plot, words] = [el("div", { className: "plot training" }), el("output")];
  const labelled = (key, field) => el("label", {}, t(key), field);
  let lines = [];
  const say = () => {
    const step = place.valueAsNumber * Math.max(...lines.map(({ points }) => points.at(-1)[0]));
    const said = lines.map(({ name, points }) => `${name} ${shown(points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a))[1])}`);
    words.textContent = [t("cardAtStep", number(Math.round(step))), ...said].join(" · ");
    place.setAttribute("aria-valuetext", words.textContent);
  };
  const draw = async () => {
    if (other.value && !logs.has(other.value)) logs.set(other.value, await logOf(other.value));
    const names = [name, other.value].filter(Boolean);
    const read = each => ({ name: each, points: smooth(logs.get(each).filter(row => Number.isFinite(row[figure.value])).map(row => [row.step, row[figure.value]]), smoothing.valueAsNumber) });
    lines = names.map(read).filter(({ points }) => points.length);
    plot.replaceChildren(...drawn(lines), place);
    say();
  };
  const point = ({ clientX }) => {
    const { left, width } = plot.getBoundingClientRect();
    place.value = Math.min(1, Math.max(0, (clientX - left) / width));
    say();
  };
  for (const menu of [figure, other]) menu.addEventListener("change", draw);
  smoothing.addEventListener("input", draw);
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  place.addEventListener("input", say);
  await draw();
  const fields = el("div", { className: "row start" }, labelled("cardFigure", figure), labelled("cardSmoothing", smoothing), others.length > 0 && labelled("cardBeside", other));
  return [fields, plot, words];
}

// Resolves to the rows of a model's log. The steps of later stages of its training follow those of earlier ones.
async function logOf(name) {
  const text = await (await request(`/models/${name}/metrics`)).text();
  const rows = text.split("\n").flatMap(line => {
    try {
      return [JSON.parse(line)].filter(row => Number.isFinite(row?.step));
    } catch {
      return []; // a line that a killed process left
    }
  });
  let [before, earlier] = [0, 0];
  return rows.map(({ step, ...figures }) => {
    if (step < before) earlier += before;
    before = step;
    return { step: earlier + step, ...figures };
  });
}

// Returns some of the points, smoothed by an exponential average that begins with the first value.
export function smooth(points, weight) {
  let [sum, total] = [0, 0];
  const all = points.map(([step, value]) => {
    [sum, total] = [weight * sum + (1 - weight) * value, weight * total + (1 - weight)];
    return [step, sum / total];
  });
  const each = Math.ceil(all.length / POINTS);
  return all.filter((_, at) => at % each === 0 || at === all.length - 1);
}

export function drawn(lines) {
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value));
  const [lowest, greatest] = [Math.min, Math.max].map(of => values.reduce((a, b) => of(a, b)));
  const least = lowest > 0 ? Math.min(lowest, greatest / 2) : lowest; // or what changes little would seem to change much
  const last = Math.max(...lines.map(({ points }) => points.at(-1)[0]));
  const scale = least > 0 && greatest / least > WIDE ? Math.log : value => value;
  const height = value => (scale(value) - scale(least)) / (scale(greatest) - scale(least) || 1);
  const middle = scale === Math.log ? Math.sqrt(least * greatest) : (least + greatest) / 2;
  const [most, half, none] = [greatest, middle, least].map(value => value.toLocaleString(language, { maximumSignificantDigits: DIGITS }));
  return [drawingOf(lines.map(({ points }) => points.map(([step, value]) => [step / last, height(value)])), 1), ...ticksOf({ most, half, none, least: 0, longest: number(last) })];
}

const SETTINGS = /^(?:(\d+) calls?|([a-z]\w*) (\d+)(?: ([a-z]+))?)(?:, eta=(\d+(?:\.\d+)?))?\b/;
const DISTANCE = /^(KID|FID|FD)\b/;
const MOST_POINTS = 12; // points

export async function qualityOf(model, tables, close) {
  if (fromPicture(model.name) || !model.defaults) return undefined;
  const rows = tables.flatMap(table => rowsOf(model, table)).slice(0, MOST_POINTS);
  const points = (await Promise.all(rows.map(priced))).filter(Boolean);
  if (points.length < 2) return undefined;
  const isTimed = points.every(({ seconds }) => seconds > 0);
  const places = points.map(point => ({ ...point, cost: isTimed ? point.seconds : point.steps }));
  const words = el("output", { textContent: t("cardQualityHint") });
  const most = Math.max(...places.map(({ distance }) => distance));
  const [least, longest] = [Math.min, Math.max].map(of => Math.log(of(...places.map(({ cost }) => cost))));
  const labelled = []; // those that have room for their words
  const pointOf = ({ query, name, distance, cost }) => {
    const [x, y] = [(Math.log(cost) - least) / (longest - least || 1), Math.max(0, distance) / most];
    const text = t("cardPoint", name, number(distance, 1), isTimed ? duration(cost) : t("cardCalls", cost));
    const point = el("button", { type: "button", className: x > 0.5 ? "point left" : "point", "aria-label": text });
    point.style.left = `${x * 100}%`;
    point.style.bottom = `${y * 100}%`;
    if (!labelled.some(other => Math.hypot((other.x - x) / 0.3, (other.y - y) / 0.15) < 1)) {
      labelled.push({ x, y });
      point.append(el("span", { textContent: name }));
    }
    const say = () => (words.textContent = text);
    point.addEventListener("pointerenter", say);
    point.addEventListener("focus", say);
    point.addEventListener("click", () => use(query, close));
    return point;
  };
  const plot = el("div", { className: "plot scatter" }, ...places.map(pointOf));
  const costOf = cost => (isTimed ? duration(cost) : number(cost));
  plot.append(...ticksOf({ most: number(most, 1), none: number(0), least: costOf(Math.exp(least)), longest: costOf(Math.exp(longest)) }));
  const axes = el("p", { className: "row hint" }, el("span", { textContent: `↑ ${rows[0].figure}` }), el("span", { textContent: `${isTimed ? t("cardSeconds") : t("steps")} →` }));
  return [axes, plot, words];
}

// The rows of a table that can be points. A card is anybody's text: what does not look like one is left out.
function rowsOf(model, table) {
  const [head, ...rows] = [...table.rows].map(row => [...row.cells].map(cell => cell.textContent));
  const column = head?.findIndex(each => DISTANCE.test(each)) ?? -1;
  if (column < 1) return [];
  const known = [...form.elements.sampler.options].map(option => option.value);
  return rows.flatMap(cells => {
    const [name, calls, sampler = model.defaults.sampler, steps = calls, spacing, eta] = SETTINGS.exec(cells[0]) ?? [];
    const distance = parseFloat((cells[column] ?? "").replace("−", "-"));
    if (!name || !known.includes(sampler) || Number.isNaN(distance)) return [];
    const chosen = { sampler, steps, ...(spacing && { spacing }), ...(eta && { eta }) };
    const query = new URLSearchParams({ model: model.name, ...chosen, ...leastOf(model.name) });
    return [{ name, query, distance, steps: Number(steps), figure: head[column] }];
  });
}

// Resolves to a point with the seconds of one picture; undefined if the server refuses these settings.
async function priced(point) {
  try {
    const { seconds } = await priceOf({ kind: "generate", query: point.query, files: [] });
    return { ...point, seconds };
  } catch {
    return undefined;
  }
}

function use(query, close) {
  close();
  fillForm("generate", query);
  form.querySelector("[type=submit]").focus();
}

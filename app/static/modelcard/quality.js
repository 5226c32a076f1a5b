// How good a model's pictures are for how much time: the rows of its card's tables that begin with settings, such as
// "dpmpp 25, eta=1.5", "unipc 8 trailing" or "4 calls", and have a distance. Their time is what the server forecasts for a picture.

import { el } from "../dom.js";
import { fillForm, form } from "../form.js";
import { priceOf } from "../making.js";
import { fromPicture, leastOf } from "../models.js";
import { duration, number, t } from "../texts.js";

const SETTINGS = /^(?:(\d+) calls?|([a-z]\w*) (\d+)(?: ([a-z]+))?)(?:, eta=(\d+(?:\.\d+)?))?\b/;
const DISTANCE = /^(KID|FID|FD)\b/;
const MOST = 12; // points

export async function qualityOf(model, tables, close) {
  if (fromPicture(model.name) || !model.defaults) return undefined;
  const rows = tables.flatMap(table => rowsOf(model, table)).slice(0, MOST);
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
  const plot = el("div", { className: "scatter" }, ...places.map(pointOf));
  const tick = (className, text) => el("span", { className: `tick ${className}`, textContent: text });
  const costOf = cost => (isTimed ? duration(cost) : number(cost));
  plot.append(tick("most", number(most, 1)), tick("none", number(0)), tick("least", costOf(Math.exp(least))), tick("longest", costOf(Math.exp(longest))));
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

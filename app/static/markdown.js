// The part of Markdown that descriptions of models use, as elements: headings, paragraphs, lists, tables, code, links.
// Pictures are left out, since the page shows those of a model by itself.

import { el } from "./dom.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|!\[[^\]]*\]\([^)]*\)|\[([^\]]+)\]\(([^)\s]+)\)/g;

function inline(text) {
  const parts = [];
  let from = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, emphasis, link, target] = found;
    parts.push(text.slice(from, found.index));
    from = found.index + whole.length;
    if (code) parts.push(el("code", { textContent: code }));
    else if (strong) parts.push(el("strong", {}, ...inline(strong)));
    else if (emphasis) parts.push(el("em", {}, ...inline(emphasis)));
    // Only whole addresses: a path would lead into a folder that is not served.
    else if (link) parts.push(/^https?:/.test(target) ? el("a", { href: target, rel: "noreferrer", target: "_blank", textContent: link }) : link);
  }
  return [...parts, text.slice(from)];
}

const cellsOf = line => line.replace(/^\||\|$/g, "").split("|").map(cell => cell.trim());

function table(lines) {
  const [head, , ...rows] = lines.map(cellsOf);
  const titles = head.some(Boolean) ? [el("tr", {}, ...head.map(text => el(text ? "th" : "td", {}, ...inline(text))))] : [];
  return el("table", {}, ...titles, ...rows.map(row => el("tr", {}, ...row.map(text => el("td", {}, ...inline(text))))));
}

function block(text) {
  const lines = text.split("\n");
  const heading = /^(#{1,4}) (.*)/.exec(text);
  if (/^( {4}|\t)/.test(text)) return el("pre", { tabIndex: 0 }, el("code", { textContent: lines.map(line => line.replace(/^( {4}|\t)/, "")).join("\n") }));
  if (heading) return el(`h${Math.min(4, heading[1].length + 2)}`, {}, ...inline(heading[2]));
  if (lines.length > 1 && lines.every(line => line.startsWith("|"))) return table(lines);
  if (/^[-*] /.test(text)) return el("ul", {}, ...text.split(/\n?^[-*] /m).slice(1).map(item => el("li", {}, ...inline(item.replaceAll("\n", " ")))));
  return el("p", {}, ...inline(lines.join(" ")));
}

export function markdown(text) {
  const body = text.replace(/\r/g, "").replace(/^---\n([^]*?\n)?---(\n|$)/, ""); // without a header for the model hub
  return body.split(/\n{2,}/).map(each => each.replace(/^\n+|\s+$/g, "")).filter(Boolean).map(block).filter(each => each.textContent.trim());
}

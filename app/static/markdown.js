// The part of Markdown that descriptions of models use, as elements, but pictures: the page shows those of a model by itself.

import { el } from "./dom.js";

// Takes linear time, whatever somebody wrote: no part of it reads beyond where it could begin again.
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|!\[[^[\]]*\]\([^)[]*\)|\[([^[\]]+)\]\(([^)[\s]+)\)/g;

// Returns an element of any number of children; a call with all of them as arguments fails from some ten thousand on.
function filled(tag, children) {
  const element = el(tag);
  for (const child of children) element.append(child);
  return element;
}

function* inline(text) {
  let from = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, emphasis, link, target] = found;
    yield text.slice(from, found.index);
    from = found.index + whole.length;
    if (code) yield el("code", { textContent: code });
    else if (strong) yield filled("strong", inline(strong));
    else if (emphasis) yield filled("em", inline(emphasis));
    // Only whole addresses: a path would lead into a folder that is not served.
    else if (link) yield /^https?:/.test(target) ? el("a", { href: target, rel: "noreferrer", target: "_blank", textContent: link }) : link;
  }
  yield text.slice(from);
}

const cellsOf = line => line.replace(/^\||\|$/g, "").split("|").map(cell => cell.trim());

function table(lines) {
  const [head, , ...rows] = lines.map(cellsOf);
  const titles = head.some(Boolean) ? [filled("tr", head.map(text => filled(text ? "th" : "td", inline(text))))] : [];
  return filled("table", [...titles, ...rows.map(row => filled("tr", row.map(text => filled("td", inline(text)))))]);
}

function block(text) {
  const lines = text.split("\n");
  const heading = /^(#{1,4}) (.*)/.exec(text);
  if (/^( {4}|\t)/.test(text)) return el("pre", { tabIndex: 0 }, el("code", { textContent: lines.map(line => line.replace(/^( {4}|\t)/, "")).join("\n") }));
  if (heading) return filled(`h${Math.min(4, heading[1].length + 2)}`, inline(heading[2]));
  if (lines.length > 1 && lines.every(line => line.startsWith("|"))) return table(lines);
  if (/^[-*] /.test(text)) return filled("ul", text.split(/\n?^[-*] /m).slice(1).map(item => filled("li", inline(item.replaceAll("\n", " ")))));
  return filled("p", inline(lines.join(" ")));
}

export function markdown(text) {
  const body = text.replace(/\r/g, "").replace(/^---\n([^]*?\n)?---(\n|$)/, ""); // without a header for the model hub
  return body.split(/\n{2,}/).map(each => each.replace(/^\n+/, "").trimEnd()).filter(Boolean).map(block).filter(each => each.textContent.trim());
}

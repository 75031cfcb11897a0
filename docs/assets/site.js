/* Formulas, and the block explorer: a table that can be filtered and sorted.
   Without this script the formulas are TeX and the table is a table. */
"use strict";

const MACROS = Object.fromEntries(
  ["relu", "bn", "gn", "conv", "mlp", "interp", "excite", "gather", "hsigma", "var"]
    .map((name) => [`\\${name}`, `\\operatorname{${name}}`])
    .concat([
      ["\\mean", "\\operatorname*{mean}"],
      ["\\softmax", "\\operatorname*{softmax}"],
      ["\\hsigma", "\\operatorname{hard}\\sigma"],
    ]),
);

function showFormulas() {
  for (const place of document.querySelectorAll(".arithmatex")) {
    const inline = place.tagName === "SPAN";
    const tex = place.textContent.trim().replace(/^\\[[(]|\\[\])]$/g, "");
    katex.render(tex, place, { displayMode: !inline, throwOnError: false, macros: { ...MACROS } });
    if (!inline) place.tabIndex = 0; // what scrolls has to be reachable by the keyboard
  }
}

/** What a cell says: a number where it is one. */
function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number(text.replaceAll(",", ""));
  return text !== "" && !Number.isNaN(number) ? number : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b);
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function explore(place) {
  const table = place.querySelector("table");
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const said = place.dataset;
  const count = element("p", { className: "explorer-count" });
  count.setAttribute("role", "status");
  const name = element("input", { type: "search", placeholder: said.filter });
  name.setAttribute("aria-label", said.filter);
  const controls = element("div", { className: "explorer-controls" }, name);
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", said.label);
  const chosen = new Map();

  const show = () => {
    let shown = 0;
    const wanted = name.value.trim().toLowerCase();
    for (const row of rows) {
      const title = row.cells[0].querySelector("a")?.title ?? "";
      const named = `${row.cells[0].textContent} ${title}`.toLowerCase().includes(wanted);
      const fits = [...chosen].every(
        ([column, select]) => !select.value || String(valueOf(row, column)) === select.value,
      );
      row.hidden = !(named && fits);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = said.shown.replace("{}", shown).replace("{}", rows.length);
  };

  for (const column of said.choose.split(",").map(Number)) {
    const values = [...new Set(rows.map((row) => valueOf(row, column)))].sort(compare);
    const select = element("select", {}, element("option", { value: "" }, said.any));
    select.append(...values.map((value) => element("option", { value: String(value) }, String(value))));
    select.addEventListener("change", show);
    chosen.set(column, select);
    controls.append(element("label", {}, heads[column].textContent, select));
  }
  name.addEventListener("input", show);

  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sorted = rows.toSorted((a, b) => compare(valueOf(a, column), valueOf(b, column)));
      table.tBodies[0].append(...(down ? sorted.reverse() : sorted));
    });
  });
  place.prepend(controls, count);
  show();
}

if (window.katex) showFormulas();
document.querySelectorAll(".explorer").forEach(explore);
/* What is wider than the page scrolls; then the keyboard has to reach it. The theme makes these. */
window.addEventListener("load", () => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) {
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  }
});

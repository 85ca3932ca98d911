"use strict";
// Sorts tables of class "sortable", and opens details for printing. Without it the page reads as written.
const keyOf = (row, column) => {
  let place = 0;
  for (const cell of row.cells) {
    if (place <= column && column < place + cell.colSpan) {
      if (cell.colSpan > 1) return "";
      return (cell.dataset.sort ?? (cell.querySelector(".value") ?? cell).textContent).trim();
    }
    place += cell.colSpan;
  }
  return "";
};
const numberOf = (text) => (/^(∞|inf|none)/.test(text) ? Infinity : Number.parseFloat(text));
const byNumber = (one, other) => (one === other ? 0 : one - other);
const byText = (one, other) => one.localeCompare(other, "en", { numeric: true });
const makeSortable = (table) => {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const sort = (column, order) => {
    const numeric = heads[column].classList.contains("n");
    const keys = new Map(written.map((row) => {
      const text = keyOf(row, column);
      return [row, numeric ? numberOf(text) : text];
    }));
    const missing = (row) => Number.isNaN(keys.get(row)) || keys.get(row) === "";
    const compare = numeric ? byNumber : byText;
    const sign = order === "descending" ? -1 : 1;
    const rows = order === "none" ? written : [...written].sort(
      (one, other) => missing(one) - missing(other) ||
        (missing(one) ? 0 : sign * compare(keys.get(one), keys.get(other))));
    body.append(...rows);
    table.classList.toggle("sorted", order !== "none");
    heads.forEach((head, index) => {
      if (index === column && order !== "none") head.setAttribute("aria-sort", order);
      else head.removeAttribute("aria-sort");
    });
  };
  const next = { ascending: "descending", descending: "none" };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(column, next[head.getAttribute("aria-sort")] ?? "ascending"));
    head.append(button);
  });
};
document.querySelectorAll("table.sortable").forEach(makeSortable);
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.runs)")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

"use strict";
// One trial highlighted wherever it is shown, its name and values beside it, and tables sorted by their headers.
// A part of a page that is renewed says so with the event `renewed`; its detail has the old part and the new one.
const tip = document.getElementById("tip");
let shown = null; // the number of the trial that is highlighted
let kept = null; // the one that stays so: clicked, or chosen with the keyboard

const marksOf = (number, within = document) => within.querySelectorAll(`[data-trial="${number}"]`);

function highlight(number) {
  if (number === shown) return;
  document.querySelectorAll(".on").forEach((mark) => mark.classList.remove("on"));
  shown = number;
  if (number === null) return;
  for (const mark of marksOf(number)) {
    mark.classList.add("on");
    if (mark.ownerSVGElement) mark.parentNode.append(mark); // above its like
  }
}

function tell(mark, x, y) {
  const title = mark && mark.querySelector(":scope > title");
  if (title) {
    mark.dataset.told = title.textContent; // or the browser would show it as well, a second later
    title.remove();
  }
  tip.textContent = (mark && mark.dataset.told) || "";
  if (!tip.textContent) return;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, document.documentElement.clientWidth - width - 4))}px`;
  tip.style.top = `${y + 16 + height < innerHeight ? y + 16 : Math.max(4, y - height - 12)}px`;
}

// The mark at a place or, since curves are thin, the first one near it.
function markAt(x, y) {
  for (const r of [0, 3, 6]) {
    for (const [i, j] of r ? [[0, r], [0, -r], [r, 0], [-r, 0], [r, r], [-r, -r], [r, -r], [-r, r]] : [[0, 0]]) {
      const mark = document.elementFromPoint(x + i, y + j)?.closest("[data-trial]");
      if (mark) return mark;
    }
  }
  return null;
}

const under = (event) => (event.target.closest("svg, tr[data-trial]") ? markAt(event.clientX, event.clientY) : null);

document.addEventListener("pointermove", (event) => {
  const mark = under(event);
  highlight(mark ? mark.dataset.trial : kept);
  tell(mark, event.clientX, event.clientY);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("button, a")) return;
  const mark = under(event);
  kept = mark && mark.dataset.trial !== kept ? mark.dataset.trial : null;
  highlight(mark ? mark.dataset.trial : null);
  tell(mark, event.clientX, event.clientY);
});

document.addEventListener("scroll", () => tell(null), { passive: true });

const keys = { drawing: { ArrowRight: 1, ArrowLeft: -1 }, table: { ArrowDown: 1, ArrowUp: -1 } };

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    kept = null;
    highlight(null);
    tell(null);
  }
  const box = event.target;
  const step = box.classList.contains("drawing") ? keys.drawing : box.classList.contains("table") ? keys.table : {};
  if (!(event.key in step) && !(event.key === "Home" || event.key === "End")) return;
  const here = new Set([...box.querySelectorAll("[data-trial]")].map((mark) => mark.dataset.trial));
  if (!here.size || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  // A table's trials in the order of its rows, a figure's from the best to the worst.
  const ranks = document.querySelector("main").dataset.order.split(" ").filter((number) => here.has(number));
  const order = step === keys.table || !ranks.length ? [...here] : ranks;
  const place = order.indexOf(kept) + (step[event.key] ?? 0);
  const ends = { Home: 0, End: order.length - 1 };
  kept = order[ends[event.key] ?? Math.max(0, Math.min(place, order.length - 1))];
  highlight(kept);
  const [mark] = marksOf(kept, box);
  mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  const { left, right, top, bottom } = mark.getBoundingClientRect();
  // After the scrolling that it caused, which would take it away.
  requestAnimationFrame(() => requestAnimationFrame(() => tell(mark, (left + right) / 2, (top + bottom) / 2)));
});

document.addEventListener("focusout", () => tell(null));

const compare = new Intl.Collator("en", { numeric: true }).compare;

// Numbers as numbers, >9 after 9, and null for a cell without a value.
function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "" || text === "-") return null;
  const number = parseFloat(text.replace(/^>/, "").replace("∞", "Infinity"));
  return Number.isNaN(number) ? text : number + (text[0] === ">" ? 0.5 : 0);
}

function sort(table, column, direction) {
  const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
  const numeric = rows.every(([value]) => value === null || typeof value === "number");
  const text = ([, row]) => row.cells[column].textContent;
  rows.sort((a, b) => {
    if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null);
    return direction * (numeric ? a[0] - b[0] : compare(text(a), text(b)));
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((header, i) => {
    if (i === column) header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    else header.removeAttribute("aria-sort");
  });
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      sort(table, column, header.getAttribute("aria-sort") === "ascending" ? -1 : 1);
    });
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);

document.addEventListener("renewed", ({ detail: { old, part } }) => {
  const before = old ? [...old.querySelectorAll("table.sortable")] : [];
  part.querySelectorAll("table.sortable").forEach((table, i) => {
    sortable(table);
    const headers = before[i] ? [...before[i].tHead.rows[0].cells] : [];
    const column = headers.findIndex((header) => header.hasAttribute("aria-sort"));
    if (column >= 0) sort(table, column, headers[column].getAttribute("aria-sort") === "ascending" ? 1 : -1);
  });
  if (shown !== null) marksOf(shown, part).forEach((mark) => mark.classList.add("on"));
});

// Asks the server for the page's next version every few seconds, and takes over the parts that have changed. What the
// reader does stays: where the page and its tables are scrolled to, how a table is sorted, the trial that is
// highlighted, what has the focus, the text that is selected. It comes after page.js, whose functions it uses.
(() => {
  const OFTEN = 2000, SELDOM = 5000, GIVE_UP = 60000;  // milliseconds
  const root = document.documentElement, notice = document.getElementById("connection");
  const parts = page => [...page.querySelectorAll("body > header, body > nav, main > section")];
  const name = part => part.id || part.tagName;
  const sent = new Map(parts(document).map(part => [name(part), part.outerHTML]));  // as the server sent them
  const scrolled = part => [...part.querySelectorAll(".table, figure, pre")];
  const focusable = part => [...part.querySelectorAll("a, button, summary, [tabindex]")];
  let lost = null;
  root.style.overflowAnchor = "none";  // or the browser would scroll as well

  function isSelected(part) {
    const selection = getSelection();
    return !selection.isCollapsed && selection.containsNode(part, true);
  }

  // Make the tables of a new part sortable, and sort them as those of the old part are.
  function prepare(fresh, part) {
    const tables = part ? [...part.querySelectorAll("table")] : [];
    [...fresh.querySelectorAll("table")].forEach((table, i) => {
      if (!table.classList.contains("sortable")) return;
      sortable(table);
      const sorted = tables[i]?.querySelector("th[aria-sort]"), headers = [...table.tHead.rows[0].cells];
      const column = sorted ? headers.findIndex(header => header.textContent === sorted.textContent) : -1;
      if (column >= 0) sort(table, column, sorted.ariaSort === "ascending" ? 1 : -1);
    });
  }

  function replace(part, fresh) {
    const places = scrolled(part).map(box => [box.scrollLeft, box.scrollTop]);
    const opened = [...part.querySelectorAll("details")].map(box => box.open);
    const focus = focusable(part).indexOf(document.activeElement);
    part.replaceWith(fresh);
    [...fresh.querySelectorAll("details")].forEach((box, i) => { box.open = opened[i] ?? box.open; });
    prepare(fresh, part);
    scrolled(fresh).forEach((box, i) => { [box.scrollLeft, box.scrollTop] = places[i] ?? [0, 0]; });
    if (focus >= 0) focusable(fresh)[focus]?.focus({ preventScroll: true });
  }

  function renew(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const anchor = scrollY ? parts(document).find(part => part.getBoundingClientRect().bottom > 0) : null;
    const top = anchor?.getBoundingClientRect().top;
    const old = new Map(parts(document).map(part => [name(part), part]));
    let whole = true, before = null;
    for (const part of parts(fresh)) {
      const known = old.get(name(part)), text = part.outerHTML;
      old.delete(name(part));
      if (!known) {
        before.after(part);
        prepare(part);
      } else if (sent.get(name(part)) !== text) {
        if (isSelected(known)) {
          whole = false;  // the next answer brings it
          before = known;
          continue;
        }
        replace(known, part);
      }
      sent.set(name(part), text);
      before = part.isConnected && part.ownerDocument === document ? part : known;
    }
    old.forEach((part, key) => { part.remove(); sent.delete(key); });
    document.title = fresh.title;
    document.querySelector("main").dataset.order = fresh.querySelector("main").dataset.order;
    const number = shown;
    shown = null;
    highlight(number);
    if (whole) root.dataset.version = fresh.documentElement.dataset.version ?? "";
    const now = anchor && parts(document).find(part => name(part) === name(anchor));
    if (now) scrollBy({ top: now.getBoundingClientRect().top - top, behavior: "instant" });
  }

  function tell(text) {
    if (notice.textContent !== text) notice.textContent = text;
    notice.hidden = !text;
  }

  async function ask() {
    try {
      const answer = await fetch(location.pathname, {
        headers: { "If-None-Match": `"${root.dataset.version}"` }, cache: "no-store",
        signal: AbortSignal.timeout(GIVE_UP),
      });
      if (answer.status === 200) renew(await answer.text());
      else if (answer.status !== 304) throw new Error(await answer.text());
      lost = null;
      tell("");
    } catch (error) {
      lost ??= new Date().toLocaleTimeString();
      const why = error instanceof TypeError || error.name === "TimeoutError"
        ? "`sweeps watch` has ended or cannot be reached" : error.message.trim();
      tell(`No longer connected since ${lost}: ${why}. What you see is as it was then; it is tried again.`);
    }
    if (root.dataset.version) setTimeout(next, lost ? SELDOM : OFTEN);
  }

  function next() {
    if (!document.hidden) ask();
    else document.addEventListener("visibilitychange", next, { once: true });  // nobody looks
  }

  setTimeout(next, OFTEN);
})();

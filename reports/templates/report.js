// Sorts, filters and pages the tables, and tells the values of charts. Without it every row is there, in the order of the report, and charts
// tell their values to a pointer that waits.
"use strict";
(() => {
  const PAGE = 200;
  const FILTER_FROM = 6;
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    let shown = PAGE;
    let query = "";
    const status = document.createElement("span");
    status.setAttribute("role", "status");
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = `Show ${PAGE} more rows`;

    const update = () => {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean);
      let matching = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        const kept = words.every((word) => text.includes(word));
        row.classList.toggle("out", !kept);
        if (kept) matching += 1;
        row.classList.toggle("later", kept && matching > shown);
      }
      more.hidden = matching <= shown;
      status.textContent = `${Math.min(matching, shown)} of ${rows.length} rows`;
    };

    const key = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    };
    const compare = (column) => (a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x !== null && y !== null) return x - y;
      const [s, t] = [a.cells[column].textContent, b.cells[column].textContent];
      return s < t ? -1 : s > t ? 1 : 0;
    };
    const empty = (row, column) => row.cells[column].textContent === "";
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "Sort";
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const order = compare(column);
        // What is not known comes last in both directions.
        const sorted = rows.slice().sort((a, b) =>
          empty(a, column) - empty(b, column) || (down ? order(b, a) : order(a, b)));
        body.append(...sorted);
        update();
      });
    });

    if (rows.length >= FILTER_FROM) {
      const tools = document.createElement("div");
      tools.className = "tools";
      const label = document.createElement("label");
      label.textContent = "Filter ";
      const input = document.createElement("input");
      input.type = "search";
      input.autocomplete = "off";
      label.append(input);
      input.addEventListener("input", () => {
        query = input.value;
        shown = PAGE;
        update();
      });
      more.addEventListener("click", () => {
        shown += PAGE;
        update();
      });
      tools.append(label, status, more);
      table.parentElement.before(tools);
    }
    update();
  }

  // The value of the mark that is pointed at, touched, or reached with the arrow keys, below its chart.
  for (const figure of document.querySelectorAll("figure")) {
    const spots = [...figure.querySelectorAll(".spot")];
    const region = figure.querySelector(".scroll");
    if (spots.length === 0) continue;
    const value = document.createElement("p");
    value.className = "value hint";
    value.setAttribute("role", "status");
    value.textContent = "Point at a mark, or press the left and right arrow keys, to read its value.";
    figure.append(value);
    let at = -1;
    const tell = (index) => {
      if (at >= 0) spots[at].classList.remove("told");
      at = index;
      spots[at].classList.add("told");
      value.classList.remove("hint");
      value.textContent = spots[at].textContent;
    };
    figure.addEventListener("pointerover", (event) => {
      const index = spots.indexOf(event.target);
      if (index >= 0) tell(index);
    });
    region.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      // Where the chart is wider than the window the keys move it.
      if (step === undefined || region.scrollWidth > region.clientWidth) return;
      event.preventDefault();
      tell(at < 0 ? 0 : (at + step + spots.length) % spots.length);
    });
  }
})();

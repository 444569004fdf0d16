"use strict";
// Search and sorting; everything else of the page works without.
for (const form of document.querySelectorAll("form.search")) {
  const rows = [...document.querySelectorAll("table.sortable tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const input = form.querySelector("input");
  const found = form.querySelector("#found");
  const look = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
      shown += !row.hidden;
    });
    found.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", look);
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.classList.add("sorts");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, at) => row.cells[at].dataset.sort ?? row.cells[at].textContent.trim();
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = new Intl.Collator(undefined, { numeric: true });
      const sorted = [...body.rows].sort((one, other) => order.compare(key(one, at), key(other, at)));
      body.append(...(down ? sorted.reverse() : sorted));
    });
  });
}

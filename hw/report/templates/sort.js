// A click on a column's head sorts by it, a second one the other way round. Columns of numbers sort as numbers.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[place].firstChild.textContent.trim(); // without the second line
      const number = (row) => {
        const found = parseFloat(text(row).replace("∞", "Infinity").replace(/,(?=\d{3})/g, ""));
        return Number.isNaN(found) ? -Infinity : found; // a dash comes first
      };
      const compare = head.classList.contains("number")
        ? (a, b) => (number(a) > number(b)) - (number(a) < number(b))
        : (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
      body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compare(a, b)));
    });
  });
}

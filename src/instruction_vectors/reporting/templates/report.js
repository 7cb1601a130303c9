(() => {
  "use strict";
  const root = document.documentElement;
  const store = {
    get() { try { return localStorage.getItem("iv-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("iv-theme", value); } catch { /* private windows have no storage */ } },
  };
  const saved = store.get();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;

  function toggle(button) {
    const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      store.set(root.dataset.theme);
      label();
    });
    label();
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const key = (row, column) => {
      const cell = row.cells[column];
      const order = cell && cell.dataset.order;
      return order === undefined ? (cell ? cell.textContent.trim() : "") : Number(order);
    };
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const sign = up ? 1 : -1;
        const rows = [...body.rows].sort((a, b) => {
          const [p, q] = [key(a, column), key(b, column)];
          if (typeof p !== typeof q) return typeof p === "number" ? -1 : 1;
          return sign * (typeof p === "number" ? p - q : p.localeCompare(q, undefined, { numeric: true }));
        });
        body.append(...rows);
      });
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    toggle(document.getElementById("theme"));
    document.querySelectorAll("table.sortable").forEach(sortable);
  });
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  });
})();

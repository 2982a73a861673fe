"use strict";
// Draws a QR code of the rows of "0" and "1" that form.js puts into [data-qr].
(() => {
  const svg = "http://www.w3.org/2000/svg";
  for (const e of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-qr]"))) {
    const rows = /** @type {HTMLElement} */ (document.getElementById(e.dataset.qr || ""));
    if (!rows) continue;
    new MutationObserver(() => {
      const lines = (rows.textContent || "").split("\n").filter(Boolean);
      e.replaceChildren();
      e.hidden = lines.length === 0;
      if (!lines.length) return;
      let d = "";
      lines.forEach((l, y) => { for (let x = 0; x < l.length; x++) if (l[x] === "1") d += `M${x + 4} ${y + 4}h1v1h-1z`; });
      const n = lines.length + 8; // four modules around it
      const s = document.createElementNS(svg, "svg");
      s.setAttribute("viewBox", `0 0 ${n} ${n}`);
      s.setAttribute("role", "img");
      s.setAttribute("aria-label", e.dataset.label || "");
      s.setAttribute("shape-rendering", "crispEdges");
      const path = document.createElementNS(svg, "path");
      path.setAttribute("d", d);
      s.append(path);
      e.append(s);
    }).observe(rows, { childList: true, characterData: true, subtree: true });
  }
})();

"use strict";
// A new meeting begins at the next full hour, by the browser's clock and in its
// time zone, unless something stands there already.
(() => {
  const zone = /** @type {HTMLInputElement | null} */ (document.querySelector("input[data-own-zone]"));
  if (zone && !zone.value) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const start = /** @type {HTMLInputElement | null} */ (document.querySelector("input[data-soon]"));
  if (!start || start.value) return;
  const t = new Date(Date.now() + 3600e3);
  /** @param {number} n */
  const two = (n) => String(n).padStart(2, "0");
  start.value = `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())}T${two(t.getHours())}:00`;
})();

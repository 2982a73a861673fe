"use strict";
// Offers the time zones that the browser knows: an input with data-zones, the id
// of its datalist. An empty input shows the browser's own as what would count.
(() => {
  for (const e of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("input[data-zones]"))) {
    const list = document.getElementById(e.dataset.zones || "");
    for (const z of Intl.supportedValuesOf("timeZone")) {
      const o = document.createElement("option");
      o.value = z;
      list?.append(o);
    }
    e.placeholder = Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
})();

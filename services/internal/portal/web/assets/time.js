"use strict";
// Times in the browser's own time zone: <time datetime="RFC 3339" data-local>.
// Without script the server's text in UTC stays.
(() => {
  const language = document.documentElement.lang;
  /** @type {Intl.DateTimeFormatOptions} */
  const options = { dateStyle: "medium", timeStyle: "short" };
  for (const e of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll("time[data-local]"))) {
    const at = new Date(e.dateTime);
    if (!Number.isNaN(at.getTime())) e.textContent = new Intl.DateTimeFormat(language, options).format(at);
  }
})();

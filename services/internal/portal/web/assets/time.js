"use strict";
// Times in the browser's own time zone: <time datetime="RFC 3339" data-local>, to
// the minute, with data-local="seconds" to the second; with data-local="title" the
// text is of another kind, and the title is the time. Without script the server's
// text in UTC stays. Whoever changes a time sends it the event "local".
(() => {
  const language = document.documentElement.lang;
  const minutes = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const seconds = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

  /** @param {HTMLTimeElement} e */
  const put = (e) => {
    const at = new Date(e.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const text = (e.dataset.local ? seconds : minutes).format(at);
    if (e.dataset.local === "title") e.title = text;
    else if (e.textContent !== text) e.textContent = text;
  };

  for (const e of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll("time[data-local]"))) put(e);
  addEventListener("local", (e) => { if (e.target instanceof HTMLTimeElement) put(e.target); });
})();

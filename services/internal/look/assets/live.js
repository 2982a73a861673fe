"use strict";
// Keeps the status page fresh: the server sends fields by the key in data-live,
// and this puts them in place. No markup comes over the wire.
(() => {
  /**
   * A field of the page: text, state, hidden, value of a meter, and of a time
   * what machines read and the title.
   * @typedef {{t?: string, s?: string, h?: boolean, v?: number, d?: string, x?: string}} Field
   */
  const page = /** @type {HTMLElement | null} */ (document.querySelector("[data-stream]"));
  const link = document.getElementById("link");
  const said = document.getElementById("said");
  const address = page && page.dataset.stream;
  if (!page || !address || !link || !said || !window.EventSource) return;

  /** @type {Map<string, any>} by key; what they have besides depends on the tag */
  const elements = new Map();
  for (const e of document.querySelectorAll("[data-live]")) elements.set(e.getAttribute("data-live") || "", e);

  /** @type {EventSource | null} */
  let source = null;
  /** @type {number | undefined} */
  let retry;
  let first = true; // of a connection: what it sends is no news to a listener
  let leaving = false;

  const reload = () => {
    if (leaving) return;
    // A form tells its result itself; a question is not taken away.
    if (document.querySelector('form[aria-busy="true"],dialog[open]')) { setTimeout(reload, 2000); return; }
    leaving = true;
    location.assign(location.pathname);
  };

  const words = { live: link.dataset.textLive, lost: link.dataset.textLost, paused: link.dataset.textPaused };
  /** @param {keyof typeof words} state */
  const tell = (state) => {
    if (link.dataset.link === state) return;
    link.dataset.link = state;
    link.textContent = words[state] || "";
  };

  /**
   * @param {any} e
   * @param {Field} f
   * @param {string[]} news is added what a listener is told
   */
  const put = (e, f, news) => {
    const hidden = Boolean(f.h);
    if (e.hidden !== hidden) {
      if (hidden && e.contains(document.activeElement)) {
        // A button that goes must not take the keyboard's place with it.
        const row = e.closest("tr") || document.getElementById("main");
        e.hidden = true;
        const next = row.querySelector("form:not([hidden]) button") || document.getElementById("main");
        next.focus();
      }
      e.hidden = hidden;
    }
    if (f.s) e.dataset.state = f.s; else delete e.dataset.state;
    if (e.tagName === "METER") { e.value = f.v || 0; return; }
    if (e.tagName === "TIME") {
      if (f.d) e.dateTime = f.d; else e.removeAttribute("datetime");
      if (f.x) e.title = f.x; else e.removeAttribute("title");
      if (e.dataset.local) { e.dispatchEvent(new Event("local", { bubbles: true })); if (e.dataset.local === "seconds") return; }
    }
    if (e.firstElementChild) return; // a container has no text of its own
    const text = f.t || "";
    if (e.textContent === text) return;
    e.textContent = text;
    if (e.dataset.say !== undefined && text) news.push(e.dataset.say ? e.dataset.say + ": " + text : text);
  };

  /** @param {{[key: string]: Field}} fields */
  const apply = (fields) => {
    // A page without a shape has the same parts always: what somebody types stays.
    const shape = fields[page.dataset.live || ""];
    if (shape && shape.s !== page.dataset.state) { reload(); return; }
    /** @type {string[]} */
    const news = [];
    for (const [key, f] of Object.entries(fields)) {
      const e = elements.get(key);
      if (e && e !== page) put(e, f, news);
    }
    if (news.length && !first) said.textContent = news.join(". ");
    first = false;
  };

  const close = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };

  const open = () => {
    close();
    if (leaving) return;
    source = new EventSource(address);
    first = true;
    source.addEventListener("status", (e) => { tell("live"); apply(JSON.parse(e.data)); });
    source.addEventListener("end", () => { close(); reload(); });
    source.addEventListener("error", () => {
      tell("lost");
      // The browser tries again by itself, unless it was turned away.
      if (source && source.readyState === EventSource.CLOSED) retry = setTimeout(open, 5000);
    });
  };

  // A page that nobody looks at holds no connection.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { close(); tell("paused"); } else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (e) => { if (e.persisted) reload(); });
  open();
})();

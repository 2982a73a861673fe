"use strict";
// Follows a log: new lines are added below, old ones leave at the top.
(() => {
  const box = /** @type {HTMLElement | null} */ (document.querySelector("[data-log]"));
  const link = /** @type {HTMLElement | null} */ (document.getElementById("log-link"));
  const search = /** @type {HTMLInputElement | null} */ (document.getElementById("log-search"));
  const live = /** @type {HTMLInputElement | null} */ (document.getElementById("log-live"));
  if (!box || !link || !search || !live || !window.EventSource) return;
  const path = box.dataset.log || "";
  const most = 2000;

  /** @type {EventSource | null} */
  let source = null;
  let retry = 0, typing = 0;

  /** @param {"live" | "lost" | "paused"} state */
  const tell = (state) => {
    link.dataset.link = state;
    link.textContent = link.dataset["text" + state[0].toUpperCase() + state.slice(1)] || "";
  };

  /** @param {{at: string, service: string, text: string}} l */
  const add = (l) => {
    const below = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const row = document.createElement("div");
    const at = document.createElement("time");
    at.dateTime = l.at;
    at.textContent = l.at.replace("T", " ").replace("Z", "").slice(0, 23);
    row.append(at, " ");
    if (box.dataset.services !== undefined) {
      const s = document.createElement("b");
      s.textContent = l.service;
      row.append(s, " ");
    }
    row.append(l.text);
    box.append(row);
    while (box.childElementCount > most) box.firstElementChild?.remove();
    if (below) box.scrollTop = box.scrollHeight;
  };

  const close = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };

  const open = () => {
    close();
    if (!live.checked || document.hidden) { tell("paused"); return; }
    const q = new URLSearchParams({ follow: "true", lines: "200" });
    if (search.value.trim()) q.set("q", search.value.trim());
    source = new EventSource(path + "?" + q);
    let fresh = true;
    source.onopen = () => { fresh = true; tell("live"); };
    source.addEventListener("line", (e) => {
      if (fresh) { box.replaceChildren(); fresh = false; }
      add(JSON.parse(e.data));
    });
    source.addEventListener("end", () => { close(); location.reload(); });
    const again = () => { tell("lost"); close(); retry = setTimeout(open, 5000); };
    source.addEventListener("lost", again);
    source.onerror = again;
  };

  /** The file of what is looked for. */
  const file = /** @type {HTMLAnchorElement | null} */ (document.getElementById("log-file"));
  const point = () => {
    if (file) file.href = path + "?" + new URLSearchParams({ format: "text", lines: "5000", q: search.value.trim() });
  };
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { point(); box.replaceChildren(); open(); }, 400);
  });
  search.form?.addEventListener("submit", (e) => { e.preventDefault(); point(); box.replaceChildren(); open(); });
  live.addEventListener("change", open);
  document.addEventListener("visibilitychange", open);
  addEventListener("pagehide", close);
  box.scrollTop = box.scrollHeight;
  live.closest("[hidden]")?.removeAttribute("hidden");
  open();
})();

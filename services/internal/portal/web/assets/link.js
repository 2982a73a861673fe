"use strict";
// A link from a mail has its secret in the fragment, which no server sees. It is
// put into the form; nothing happens until the form is sent.
// [data-link="PURPOSE"] is around it: [data-linked] is shown with a secret,
// [data-unlinked] without, [data-link-bad] when the secret is not good any more,
// and [data-about="email"] get what it is about.
(() => {
  const box = /** @type {HTMLElement | null} */ (document.querySelector("[data-link]"));
  if (!box) return;
  /** @param {string} name @param {boolean} on */
  const show = (name, on) => {
    for (const e of /** @type {NodeListOf<HTMLElement>} */ (box.querySelectorAll(`[data-${name}]`))) e.hidden = !on;
  };
  const kept = sessionStorage.getItem("link"); // over a change of the language
  sessionStorage.removeItem("link");
  const secret = location.hash.slice(1) || (kept && kept.startsWith(location.pathname + "#") ? kept.slice(location.pathname.length + 1) : "");
  document.querySelector("form.languages")?.addEventListener("submit", () => {
    if (secret) sessionStorage.setItem("link", location.pathname + "#" + secret);
  });
  addEventListener("hashchange", () => location.reload()); // the link was pasted into the open page
  show("unlinked", !secret);
  show("linked", !!secret);
  if (!secret) return;
  for (const e of /** @type {NodeListOf<HTMLInputElement>} */ (box.querySelectorAll("input[name=link]"))) e.value = secret;
  const about = async () => {
    const r = await fetch("/api/v1/links", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ purpose: box.dataset.link, link: secret }) });
    if (r.status === 422) { show("linked", false); show("link-bad", true); return; }
    if (!r.ok) return;
    const info = await r.json();
    for (const e of /** @type {NodeListOf<HTMLElement>} */ (box.querySelectorAll("[data-about]"))) {
      const v = String(info[e.dataset.about || ""] || "");
      if (e instanceof HTMLInputElement) { if (!e.value) e.value = v; } else e.textContent = v;
      const line = e.closest("[data-about-line]");
      if (line instanceof HTMLElement && v) line.hidden = false;
    }
  };
  about().catch(() => {}); // the form says the same when it is sent
})();

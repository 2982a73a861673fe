"use strict";
// Entering a meeting. On lists a link or form with [data-start] says that the
// person has pressed Start, so that the page of the meeting goes on by itself;
// a link from another site cannot. On the page of a meeting ([data-join]) the
// passcode comes from the fragment, #p=…, and the ticket goes to the controller
// in one: no server's log has either.
(() => {
  for (const kind of ["click", "submit"])
    document.addEventListener(kind, (e) => {
      if (e.target instanceof Element && e.target.closest(kind === "click" ? "a[data-start]" : "form[data-start]")) sessionStorage.setItem("start", "1");
    }, true);

  const box = /** @type {HTMLElement | null} */ (document.querySelector("[data-join]"));
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("[data-join-form]"));
  const state = /** @type {HTMLElement | null} */ (document.querySelector("[data-state]"));
  if (!box || !form || !state) return;

  /** @param {string} name */
  const input = (name) => /** @type {HTMLInputElement | null} */ (form.querySelector(`input[name="${name}"]`));
  /** @param {string} query @param {boolean} on */
  const show = (query, on) => { const e = document.querySelector(query); if (e instanceof HTMLElement) e.hidden = !on; };

  // The passcode of the link, over a change of the language or a sign-in.
  const kept = sessionStorage.getItem("passcode") || "";
  sessionStorage.removeItem("passcode");
  const fragment = new URLSearchParams(location.hash.slice(1)).get("p") || "";
  const passcode = fragment || (kept.startsWith(location.pathname + "#") ? kept.slice(location.pathname.length + 1) : "");
  const keep = () => { if (passcode) sessionStorage.setItem("passcode", location.pathname + "#" + passcode); };
  document.querySelector("form.languages")?.addEventListener("submit", keep);
  document.querySelector("[data-signin]")?.addEventListener("click", keep);
  addEventListener("hashchange", () => location.reload());
  const code = input("passcode");
  if (passcode && code) { code.value = passcode; show("[data-passcode]", false); }

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let left = false;

  /** @param {string} name */
  const say = (name) => {
    const t = /** @type {HTMLTemplateElement | null} */ (document.querySelector(`[data-say="${CSS.escape(name)}"]`));
    if (!t) return false;
    const title = state.querySelector("[data-state-title]"), text = state.querySelector("[data-state-text]");
    const fresh = state.hidden || title?.textContent !== t.dataset.title;
    if (title) title.textContent = t.dataset.title || "";
    if (text) text.textContent = t.content.textContent;
    form.hidden = true;
    state.hidden = false;
    if (fresh) state.focus();
    return true;
  };

  /** @param {{message: string, fields?: {field: string, code: string, message: string}[]}} p */
  const refuse = (p) => {
    state.hidden = true;
    form.hidden = false;
    let first = null;
    const rest = [];
    for (const f of p.fields || []) {
      if (f.field === "name") show("[data-guest]", true);
      if (f.field === "passcode") show("[data-passcode]", true);
      const i = input(f.field);
      const error = i?.closest(".input")?.querySelector(".error");
      if (!i || !(error instanceof HTMLElement)) { rest.push(f.message); continue; }
      error.textContent = f.message;
      error.hidden = false;
      i.setAttribute("aria-invalid", "true");
      first = first || i;
    }
    const summary = form.querySelector("[data-summary]");
    if (summary instanceof HTMLElement && (!first || rest.length)) {
      summary.textContent = [p.message, ...rest].join(" ");
      summary.hidden = false;
      summary.focus();
    }
    if (first) first.focus();
  };

  const clear = () => {
    for (const e of form.querySelectorAll("[aria-invalid]")) e.removeAttribute("aria-invalid");
    for (const e of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll(".error,[data-summary]"))) e.hidden = true;
  };

  const attempt = async () => {
    clearTimeout(timer);
    const host = box.dataset.host;
    /** @type {Response} */
    let r;
    try {
      r = host ? await fetch(`/api/v1/meetings/${encodeURIComponent(host)}/start`, { method: "POST", redirect: "error" }) :
        await fetch("/api/v1/join", { method: "POST", redirect: "error", headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ number: box.dataset.number || input("number")?.value || "", passcode: code?.value || "", name: input("name")?.value || "" }) });
    } catch {
      if (state.hidden) refuse({ message: document.body.dataset.lost || "" }); else again(5);
      return;
    }
    if (left) return;
    if (r.status === 429 && !state.hidden) { again(Number(r.headers.get("Retry-After")) || 5); return; }
    if (!r.ok) {
      let p = { message: r.status + " " + r.statusText };
      try { p = (await r.json()).error; } catch { /* not ours */ }
      refuse(p);
      return;
    }
    const joined = await r.json();
    if (!say(joined.why ? joined.state + "-" + joined.why : joined.state)) say(joined.state);
    if (joined.state === "ready" && joined.origins?.length) {
      show("[data-state-again]", false);
      const [first, ...others] = joined.origins;
      location.assign(first + "/m#" + new URLSearchParams({ t: joined.ticket, c: others.join(",") }));
      return;
    }
    again(joined.again || 5);
  };

  /** Tries again after about so many seconds: not everybody at once.
   * @param {number} seconds */
  const again = (seconds) => {
    show("[data-state-again]", true);
    timer = setTimeout(attempt, 1000 * seconds * (0.8 + 0.4 * Math.random()));
  };

  form.addEventListener("submit", (e) => {
    e.preventDefault();
    left = false;
    clear();
    attempt();
  });
  state.querySelector("[data-leave]")?.addEventListener("click", () => {
    left = true;
    clearTimeout(timer);
    state.hidden = true;
    form.hidden = false;
    form.querySelector("button")?.focus();
  });

  const started = sessionStorage.getItem("start");
  sessionStorage.removeItem("start");
  if (started && box.dataset.host) attempt();
})();

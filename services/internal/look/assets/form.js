"use strict";
// Forms that call the API: fields become JSON, errors come back beside their
// fields. doc.go lists the attributes. No markup is made of text.
(() => {
  /** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Control */
  /** @typedef {{code: string, message: string, fields?: {field: string, code: string, message: string}[]}} Problem */

  const flash = document.getElementById("flash");

  /** Tells a result in the region that screen readers listen to.
   * @param {string} text @param {boolean | "warn"} [bad] */
  const tell = (text, bad) => {
    if (!flash) return;
    flash.replaceChildren();
    if (!text) return;
    const p = document.createElement("p");
    p.className = "note " + (bad === "warn" ? "warn" : bad ? "bad" : "good");
    p.textContent = text;
    flash.append(p);
    flash.scrollIntoView({ block: "nearest" });
  };

  /** Sets a value by its path, "eth0.address".
   * @param {any} to @param {string} path @param {any} value */
  const set = (to, path, value) => {
    const parts = path.split(".");
    const last = parts.pop() || "";
    for (const p of parts) to = to[p] ?? (to[p] = {});
    to[last] = value;
  };

  /** @param {string} text */
  const list = (text) => text.split(/\r?\n/).map((s) => s.trim()).filter(Boolean);

  /** @param {Control} e @returns {any} undefined is: not part of the request */
  const read = (e) => {
    if (e instanceof HTMLInputElement) {
      if (e.type === "checkbox") return e.checked;
      if (e.type === "radio") return e.checked ? e.value : undefined;
      if (e.type === "file") return undefined;
    }
    switch (e.dataset.type) {
      case "list": return list(e.value);
      case "words": return e.value.split(/[\s,]+/).filter(Boolean);
      case "number": return e.value.trim() === "" ? 0 : Number(e.value);
      case "keep": return e.value === "" ? undefined : e.value; // nothing typed leaves it as it is
    }
    return e.value;
  };

  /** @param {ParentNode} root @returns {Control[]} */
  const controls = (root) => /** @type {Control[]} */ ([...root.querySelectorAll("input[name],select[name],textarea[name]")]);

  /** @param {HTMLFormElement} form */
  const collect = (form) => {
    /** @type {Record<string, any>} */
    const out = {};
    for (const group of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-rows]"))) {
      const rows = [...group.querySelectorAll("[data-row]")].map((row) => {
        /** @type {Record<string, any>} */
        const o = {};
        for (const e of controls(row)) { const v = read(e); if (v !== undefined) set(o, e.name, v); }
        return o;
      });
      const map = (group.dataset.rowsMap || "").split(",");
      set(out, group.dataset.rows || "", map.length === 2 ? Object.fromEntries(rows.map((r) => [r[map[0]], r[map[1]]])) : rows);
    }
    /** @type {Map<string, string[]>} */
    const lists = new Map();
    for (const e of controls(form)) {
      if (e.closest("[data-row]") || e.dataset.type === "skip" || e.matches(":disabled") || e.closest("[data-if][hidden]")) continue;
      if (e instanceof HTMLInputElement && e.dataset.list !== undefined) {
        const values = lists.get(e.name) || [];
        if (!lists.has(e.name)) { lists.set(e.name, values); set(out, e.name, values); }
        if (e.checked) values.push(e.value);
        continue;
      }
      const v = read(e);
      if (v !== undefined) set(out, e.name, v);
    }
    return out;
  };

  /** The element of a field by the way to its value, "routes.2.gateway".
   * @param {HTMLFormElement} form @param {string} field @returns {HTMLElement | null} */
  const find = (form, field) => {
    const parts = field.split(".");
    for (let n = parts.length; n > 0; n--) {
      const name = parts.slice(0, n).join(".");
      const e = form.querySelector(`[data-field="${CSS.escape(name)}"]`);
      if (e && !e.closest("[data-row]")) return /** @type {HTMLElement} */ (e);
      const group = form.querySelector(`[data-rows="${CSS.escape(name)}"]`);
      if (!(group instanceof HTMLElement)) continue;
      const row = rowOf(group, parts[n]);
      const inner = row && row.querySelector(`[data-field="${CSS.escape(parts.slice(n + 1).join("."))}"]`);
      return /** @type {HTMLElement} */ (inner || row && row.querySelector("[data-field]") || group);
    }
    return null;
  };

  /** @param {HTMLElement} group @param {string} key */
  const rowOf = (group, key) => {
    const rows = [...group.querySelectorAll("[data-row]")];
    const map = (group.dataset.rowsMap || "").split(",");
    if (map.length !== 2) return rows[Number(key)];
    return rows.find((r) => controls(r).some((e) => e.name === map[0] && e.value === key));
  };

  /** @param {HTMLElement} field */
  const inputOf = (field) => /** @type {HTMLElement | null} */ (field.matches("input,select,textarea") ? field : field.querySelector("input,select,textarea"));

  /** @param {HTMLFormElement} form */
  const clear = (form) => {
    for (const e of form.querySelectorAll("[aria-invalid]")) e.removeAttribute("aria-invalid");
    for (const e of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll(".error"))) { e.hidden = true; e.textContent = ""; }
    const s = form.querySelector("[data-summary]");
    if (s instanceof HTMLElement) { s.hidden = true; s.replaceChildren(); }
  };

  /** @param {HTMLFormElement} form @param {Problem} p */
  const show = (form, p) => {
    const lines = [];
    let first = null;
    for (const f of p.fields || []) {
      const field = f.field ? find(form, f.field) : null;
      const error = field && field.querySelector(":scope > .error");
      const input = field && inputOf(field);
      if (error instanceof HTMLElement && input) {
        error.textContent = error.hidden ? f.message : error.textContent + " " + f.message;
        error.hidden = false;
        input.setAttribute("aria-invalid", "true");
        first = first || input;
        const label = field && field.querySelector("label,legend");
        lines.push((label ? (label.firstChild?.textContent || "").trim() + ": " : "") + f.message);
      } else lines.push((f.field ? f.field + ": " : "") + f.message);
    }
    const summary = form.querySelector("[data-summary]") || form.closest("dialog")?.querySelector("[data-summary]");
    if (summary instanceof HTMLElement) {
      const head = document.createElement("p");
      head.textContent = p.message;
      summary.replaceChildren(head);
      if (lines.length) {
        const ul = document.createElement("ul");
        for (const l of lines) { const li = document.createElement("li"); li.textContent = l; ul.append(li); }
        summary.append(ul);
      }
      summary.hidden = false;
      if (!first) summary.focus();
    } else tell([p.message, ...lines].join(" "), true);
    if (first) first.focus();
  };

  /** A button that is disabled loses the keyboard; it gets it back.
   * @type {Element | null} */
  let held = null;

  /** @param {HTMLFormElement} form @param {boolean} busy */
  const setBusy = (form, busy) => {
    if (busy) held = form.contains(document.activeElement) ? document.activeElement : null;
    form.setAttribute("aria-busy", String(busy));
    for (const b of /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button:not([type=button])"))) b.disabled = busy;
    if (!busy && held instanceof HTMLElement && document.activeElement === document.body) held.focus();
  };

  /** Loads the page anew from its top, where the result and a change that must
   * be confirmed stand. */
  const reload = () => {
    again = true;
    history.scrollRestoration = "manual";
    location.reload();
  };
  let again = false;
  addEventListener("pagehide", () => { if (!again) history.scrollRestoration = "auto"; });

  /** Says that the session has ended, with a way to log in beside this page.
   * @param {HTMLFormElement} form */
  const showEnded = (form) => {
    show(form, { code: "unauthorized", message: document.body.dataset.ended || "" });
    const summary = form.querySelector("[data-summary]");
    if (!summary) return;
    const a = document.createElement("a");
    a.href = "/login";
    a.target = "_blank";
    a.rel = "opener"; // the new page shares the session
    a.textContent = document.body.dataset.login || "";
    summary.append(a);
    a.focus();
  };

  /** Asks whether the appliance answers; a lost packet is no answer for minutes. */
  const alive = () => fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(4000) });

  /** Waits for the appliance to answer again, and goes to it.
   * @param {string} to @param {boolean} [gone] it is known not to answer */
  const comeBack = async (to, gone) => {
    for (let n = 0; n < 150; n++) {
      await new Promise((r) => setTimeout(r, 2000));
      try {
        const r = await alive();
        if (r.ok && (gone || n > 20)) { location.assign(to); return; }
      } catch { gone = true; }
    }
  };

  /** @param {HTMLFormElement} form */
  const submit = async (form) => {
    if (form.getAttribute("aria-busy") === "true") return;
    clear(form);
    let [method, path] = (form.dataset.api || "").split(" ");
    let body = form.dataset.body ? JSON.parse(form.dataset.body) : collect(form);
    path = path.replace(/\{(\w+)\}/g, (_, name) => {
      const v = String(body[name] ?? "");
      delete body[name];
      return encodeURIComponent(v);
    });
    const empty = method === "DELETE" || Object.keys(body).length === 0 && !controls(form).length && !form.dataset.body;
    setBusy(form, true);
    /** @type {Response} */
    let answer;
    // A new address may swallow the answer: the browser would wait for minutes.
    const lost = form.dataset.lost;
    const slow = setTimeout(() => { if (lost) tell(lost, "warn"); }, 12000);
    const signal = lost ? AbortSignal.timeout(75000) : undefined;
    try {
      // After a change of the network only a new connection may confirm it; the
      // server closes each old one that is used, and a browser has some.
      for (let n = 0; ; n++) {
        answer = await fetch(path, { method, headers: empty ? {} : { "Content-Type": "application/json" }, body: empty ? undefined : JSON.stringify(body), redirect: "error", signal });
        if (answer.status !== 409 || n > 12) break;
        const p = await answer.clone().json();
        if (p.error?.code !== "same-connection") break;
      }
    } catch {
      setBusy(form, false);
      if (lost) { tell(lost, "warn"); comeBack("/network", true); return; } // it says what came of the change
      show(form, { code: "lost", message: document.body.dataset.lost || "" });
      return;
    } finally {
      clearTimeout(slow);
    }
    if (!answer.ok) {
      setBusy(form, false);
      if (answer.status === 401) {
        // What was typed would be lost with the page.
        if (controls(form).length && form.querySelector("[data-summary]") && document.body.dataset.ended) { showEnded(form); return; }
        location.assign("/login?ended=unknown");
        return;
      }
      let p;
      try { p = (await answer.json()).error; } catch { p = { code: "", message: answer.status + " " + answer.statusText }; }
      show(form, p);
      return;
    }
    if (form.dataset.stream) {
      await stream(form, answer);
      setBusy(form, false);
      return;
    }
    const value = answer.status === 204 ? null : await answer.json();
    if (lost && value?.pending && !await alive().then((r) => r.ok, () => false)) {
      setBusy(form, false);
      tell(lost, "warn");
      comeBack("/network", true);
      return;
    }
    done(form, value);
  };

  /** @param {HTMLFormElement} form @param {any} value */
  const done = (form, value) => {
    const dialog = form.closest("dialog");
    if (dialog && !form.dataset.show) dialog.close();
    if (form.dataset.show) {
      setBusy(form, false);
      const box = document.getElementById(form.dataset.show);
      if (!box) return;
      for (const e of /** @type {NodeListOf<HTMLElement>} */ (box.querySelectorAll("[data-from]"))) {
        let v = value;
        for (const p of (e.dataset.from || "").split(".")) v = v?.[p];
        const text = Array.isArray(v) ? v.join("\n") : String(v ?? "");
        if (e instanceof HTMLInputElement || e instanceof HTMLTextAreaElement) e.value = text; else e.textContent = text;
      }
      if (!form.dataset.keep) form.hidden = true;
      box.hidden = false;
      box.focus();
      return;
    }
    const to = form.dataset.done || "stay";
    if (value && value.later || form.dataset.wait) {
      tell(form.dataset.wait || document.body.dataset.later || "");
      comeBack(to.startsWith("/") ? to : location.pathname);
      return;
    }
    if (to === "stay") {
      setBusy(form, false);
      tell(form.dataset.ok || "");
      return;
    }
    // The network's state, when nothing in it waits to be confirmed.
    const same = form.dataset.same && value && !value.pending;
    const text = same ? form.dataset.same : form.dataset.ok;
    if (text) sessionStorage.setItem("flash", text);
    // A path may name what was made: {id} is from the answer.
    if (to === "reload") reload(); else location.assign(to.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(value?.[name] ?? ""))));
  };

  /** Shows lines of an answer as they come.
   * @param {HTMLFormElement} form @param {Response} answer */
  const stream = async (form, answer) => {
    const out = document.getElementById(form.dataset.stream || "");
    if (!out || !answer.body) return;
    out.hidden = false;
    out.textContent = "";
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", ended = false;
    /** @param {string} text */
    const add = (text) => { out.append(text + "\n"); out.scrollTop = out.scrollHeight; };
    for (;;) {
      let part;
      try { part = await reader.read(); } catch { break; }
      if (part.done) break;
      const lines = (rest + part.value).split("\n");
      rest = lines.pop() || "";
      for (const l of lines) {
        const v = JSON.parse(l);
        if (v.line !== undefined) add(v.line);
        if (v.error) { ended = true; show(form, v.error); }
        if (v.done) ended = true;
      }
    }
    if (!ended) add(document.body.dataset.lost || "…");
  };

  /** Asks in a dialog before the form is sent.
   * @param {HTMLFormElement} form @param {HTMLDialogElement} dialog */
  const ask = (form, dialog) => {
    const typed = /** @type {HTMLInputElement | null} */ (dialog.querySelector("[data-typed]"));
    const yes = /** @type {HTMLButtonElement} */ (dialog.querySelector("[data-yes]"));
    if (typed) {
      typed.value = "";
      yes.disabled = true;
      typed.oninput = () => { yes.disabled = typed.value.trim() !== typed.dataset.typed; };
    }
    dialog.onclose = () => {
      if (dialog.returnValue !== "yes") return;
      if (typed) { const into = /** @type {HTMLInputElement | null} */ (form.elements.namedItem("typed")); if (into) into.value = typed.value.trim(); }
      submit(form);
    };
    dialog.returnValue = "";
    dialog.showModal();
  };

  document.addEventListener("submit", (e) => {
    const form = /** @type {HTMLFormElement} */ (e.target);
    if (form.dataset.api === undefined) return;
    e.preventDefault();
    const dialog = form.dataset.confirm && document.getElementById(form.dataset.confirm);
    if (dialog instanceof HTMLDialogElement) ask(form, dialog); else submit(form);
  });

  document.addEventListener("click", (e) => {
    const b = e.target instanceof Element ? /** @type {HTMLElement | null} */ (e.target.closest("button")) : null;
    if (!b) return;
    if (b.dataset.add !== undefined) {
      const group = b.closest("[data-rows]");
      const t = group && group.querySelector("template");
      if (!group || !t) return;
      const n = String(Date.now() % 1e9);
      const row = /** @type {HTMLElement} */ (/** @type {DocumentFragment} */ (t.content.cloneNode(true)).firstElementChild);
      for (const x of row.querySelectorAll("[id],[for],[aria-describedby]")) // ids stay unique
        for (const a of ["id", "for", "aria-describedby"]) {
          const v = x.getAttribute(a);
          if (v) x.setAttribute(a, v.split(" ").map((s) => s + "-" + n).join(" "));
        }
      t.before(row);
      const first = inputOf(row);
      if (first) first.focus();
    } else if (b.dataset.remove !== undefined) {
      const row = b.closest("[data-row]");
      const add = b.closest("[data-rows]")?.querySelector("[data-add]");
      row?.remove();
      if (add instanceof HTMLElement) add.focus();
    } else if (b.dataset.cancel !== undefined) {
      b.closest("dialog")?.close("no");
    } else if (b.dataset.open) {
      const d = document.getElementById(b.dataset.open);
      if (d instanceof HTMLDialogElement) d.showModal();
    } else if (b.dataset.copy !== undefined) {
      const text = b.parentElement?.querySelector(".code")?.textContent || "";
      navigator.clipboard.writeText(text).then(() => {
        const was = b.textContent;
        b.textContent = b.dataset.copied || "";
        setTimeout(() => { b.textContent = was; }, 2000);
      }, () => getSelection()?.selectAllChildren(/** @type {Node} */ (b.parentElement?.querySelector(".code"))));
    }
  });

  // What a choice shows: [data-if="eth0.mode=static"] is there with that choice.
  const choose = () => {
    for (const e of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-if]"))) {
      const form = e.closest("form");
      const [name, values] = (e.dataset.if || "").split("=");
      const now = form && new FormData(form).get(name);
      e.hidden = !(values || "").split("|").includes(String(now ?? ""));
    }
  };
  document.addEventListener("change", (e) => {
    const input = e.target;
    if (input instanceof HTMLInputElement && input.type === "file" && input.dataset.into) {
      const into = /** @type {HTMLTextAreaElement} */ (document.getElementById(input.dataset.into));
      const file = input.files && input.files[0];
      const error = into.closest(".input")?.querySelector(":scope > .error");
      const big = !!file && file.size >= 500000;
      if (error instanceof HTMLElement) { error.hidden = !big; error.textContent = big ? document.body.dataset.big || "" : ""; }
      into.toggleAttribute("aria-invalid", false);
      if (big) { into.setAttribute("aria-invalid", "true"); into.focus(); }
      else if (file) file.text().then((t) => { into.value = t; into.focus(); });
      input.value = "";
    }
    choose();
  });
  choose();

  // A change that waits: count down; at the end the old state is back.
  for (const e of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-countdown]"))) {
    const end = performance.now() + 1000 * Number(e.dataset.countdown);
    const timer = setInterval(() => {
      const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
      e.textContent = (e.dataset.text || "0").replace("0", String(left));
      if (left === 0) { clearInterval(timer); setTimeout(reload, 3000); }
    }, 1000);
  }

  // The language switch loads the page anew: what was typed comes back, but for
  // secrets, which are kept nowhere.
  const typed = () => /** @type {Control[]} */ ([...document.querySelectorAll("form[data-api] input[id],form[data-api] select[id],form[data-api] textarea[id]")])
    .filter((e) => e.name && !e.closest("[data-row],dialog") && !["password", "file", "hidden"].includes(e.type) && !/password|token|key|code/.test(e.name));
  document.querySelector("form.languages")?.addEventListener("submit", () => {
    const values = Object.fromEntries(typed().map((e) => [e.id, e instanceof HTMLInputElement && /checkbox|radio/.test(e.type) ? e.checked : e.value]));
    sessionStorage.setItem("typed", JSON.stringify({ path: location.pathname, values }));
  });
  const kept = sessionStorage.getItem("typed");
  sessionStorage.removeItem("typed");
  if (kept) {
    const { path, values } = JSON.parse(kept);
    if (path === location.pathname) for (const e of typed()) {
      if (!(e.id in values)) continue;
      if (typeof values[e.id] === "boolean") /** @type {HTMLInputElement} */ (e).checked = values[e.id]; else e.value = values[e.id];
    }
    choose();
  }

  const waiting = sessionStorage.getItem("flash");
  if (waiting) { sessionStorage.removeItem("flash"); if (flash && !flash.textContent?.trim()) tell(waiting); }
  // The keyboard goes on where the result stands.
  if (waiting && flash && document.activeElement === document.body) flash.focus({ preventScroll: true });
})();

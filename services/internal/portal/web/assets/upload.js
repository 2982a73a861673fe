"use strict";
// Publishing a release: the version is begun, each file is sent by itself with its
// progress, then all of it is published. What arrived stays when something fails.
// Names, sizes and the version in the OVFs are checked before any file is sent.
(() => {
  const form = /** @type {HTMLFormElement | null} */ (document.querySelector("form[data-upload]"));
  if (!form) return;
  const files = /** @type {HTMLInputElement} */ (form.querySelector("[data-files]"));
  const progress = /** @type {HTMLElement} */ (form.querySelector("[data-progress]"));
  const bar = /** @type {HTMLProgressElement} */ (form.querySelector("progress"));
  const text = /** @type {HTMLElement} */ (form.querySelector("[data-progress-text]"));
  const summary = /** @type {HTMLElement} */ (form.querySelector("[data-summary]"));
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button.primary"));

  /** @param {string} name */
  const value = (name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name)).value.trim();

  /** Sends a request; tells the share that is sent.
   * @param {string} method @param {string} path @param {XMLHttpRequestBodyInit | null} body @param {string} kind @param {(sent: number) => void} [told]
   * @returns {Promise<any>} what the answer says */
  const send = (method, path, body, kind, told) => new Promise((done, failed) => {
    const x = new XMLHttpRequest();
    x.open(method, path);
    if (kind) x.setRequestHeader("Content-Type", kind);
    x.setRequestHeader("Accept-Language", document.documentElement.lang);
    if (told) x.upload.onprogress = (e) => told(e.loaded);
    x.onerror = () => failed(new Error(document.body.dataset.lost || ""));
    x.onload = () => {
      if (x.status < 300) return done(x.responseText ? JSON.parse(x.responseText) : null);
      let why = form.dataset.failed || "";
      try {
        const p = JSON.parse(x.responseText).error;
        why = [p.message, ...(p.fields || []).map((/** @type {{message: string}} */ f) => f.message)].join(" ");
      } catch { /* not from the portal */ }
      failed(new Error(why));
    };
    x.send(body);
  });

  const version = /** @type {HTMLInputElement} */ (form.elements.namedItem("version"));
  const names = (form.dataset.names || "").split(" ");
  const chosen = () => [...(files.files || [])];

  /** What the OVFs that were chosen are of.
   * @returns {Promise<{name: string, version: string}[]>} */
  const versions = () => Promise.all(chosen().filter((f) => f.name.endsWith(".ovf")).map(async (f) => {
    const text = await f.slice(0, 1 << 20).text();
    return { name: f.name, version: (text.match(/<(?:\w+:)?FullVersion>([^<]{1,100})</) || ["", ""])[1] };
  }));

  /** @param {string | undefined} what @param {string[]} list */
  const refuse = (what, list) => {
    if (list.length) throw new Error((what || "") + " " + list.join(", "));
  };

  files.addEventListener("change", async () => {
    const found = (await versions()).find((o) => o.version);
    if (found && !version.value.trim()) version.value = found.version;
  });

  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    summary.hidden = true;
    button.disabled = true;
    progress.hidden = false;
    try {
      refuse(form.dataset.unknown, chosen().filter((f) => !names.includes(f.name)).map((f) => f.name));
      refuse(form.dataset.big, chosen().filter((f) => f.size > Number(form.dataset.max)).map((f) => f.name));
      const name = value("version");
      refuse(form.dataset.other, (await versions()).filter((o) => o.version && o.version !== name).map((o) => o.name + " (" + o.version + ")"));
      const path = "/api/v1/operator/releases/" + encodeURIComponent(name);
      const begun = await send("POST", "/api/v1/operator/releases", JSON.stringify({ version: name, notes: { en: value("notes.en"), ru: value("notes.ru") } }), "application/json");
      // Of a version that is published already come those that are missing.
      /** @type {string[] | undefined} */
      const missing = begun?.missing;
      const list = chosen().filter((f) => !missing || missing.includes(f.name));
      if (missing && !list.length) refuse(form.dataset.missing, missing);
      /** @type {string[]} */
      const have = begun?.have || [];
      if (!missing) refuse(form.dataset.absent, names.filter((n) => !have.includes(n) && !list.some((f) => f.name === n)));
      const all = list.reduce((n, f) => n + f.size, 0) || 1;
      let before = 0;
      for (const f of list) {
        text.textContent = (form.dataset.sending || "") + " " + f.name;
        await send("PUT", path + "/files/" + encodeURIComponent(f.name), f, "application/octet-stream", (n) => { bar.value = 100 * (before + n) / all; });
        before += f.size;
      }
      bar.value = 100;
      if (!missing) await send("POST", path + "/publish", null, "");
      text.textContent = form.dataset.published || "";
      location.reload();
    } catch (why) {
      summary.textContent = why instanceof Error ? why.message : String(why);
      summary.hidden = false;
      summary.focus();
      progress.hidden = true;
    } finally {
      button.disabled = false;
    }
  });
})();

"use strict";
// Charts of a zone's history, drawn by uPlot (uplot.js), with a table of the same
// for those who cannot see them. live.js keeps the rest of the page fresh.
(() => {
  /** @typedef {{at: string, meetings: number, participants: number, cpu: number, sendBits: number}} Point */
  /** @typedef {{step: number, from: string, to: string, points: Point[]}} History */
  /** @type {any} */
  const Plot = /** @type {any} */ (window).uPlot;
  const language = document.documentElement.lang;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const reload = 60_000;

  /** @param {string} name */
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** @param {HTMLElement} card */
  const chart = (card) => {
    const note = /** @type {HTMLElement} */ (card.querySelector("[data-note]"));
    const table = /** @type {HTMLTableElement} */ (card.querySelector("[data-table]"));
    const buttons = /** @type {HTMLButtonElement[]} */ ([...card.querySelectorAll("[data-range]")]);
    const boxes = /** @type {HTMLElement[]} */ ([...card.querySelectorAll("[data-plot]")]);
    /** @type {any[]} */
    let plots = [];
    let range = "1h";

    /** Adds points where nothing ran, so that a line breaks there.
     * @param {History} h */
    const columns = (h) => {
      const step = h.step / 1e9;
      /** @type {(number | null)[][]} */
      const out = [[], [], [], [], []];
      const at = new Map(h.points.map((p) => [Date.parse(p.at) / 1000, p]));
      for (let t = Math.floor(Date.parse(h.from) / 1000 / step) * step; t * 1000 <= Date.parse(h.to); t += step) {
        const p = at.get(t);
        const row = [t, p ? p.participants : null, p ? p.meetings : null, p ? p.cpu * 100 : null, p ? p.sendBits / 1e6 : null];
        row.forEach((v, i) => out[i].push(v));
      }
      return out;
    };

    /** What the lines are: uPlot's own legend is a table without a head.
     * @param {(string | number | undefined)[][]} series */
    const legend = (series) => {
      const ul = document.createElement("ul");
      ul.className = "legend";
      for (const [label, stroke] of series) {
        const li = document.createElement("li");
        const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        const line = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        for (const [k, v] of Object.entries({ width: "100%", height: "100%", rx: "2", fill: String(stroke) })) line.setAttribute(k, v);
        svg.setAttribute("aria-hidden", "true");
        svg.append(line);
        li.append(svg, String(label));
        ul.append(li);
      }
      return ul;
    };

    /** @param {History} h */
    const draw = (h) => {
      for (const p of plots) p.destroy();
      plots = [];
      note.textContent = h.points.length ? "" : card.dataset.empty || "";
      for (const b of boxes) b.hidden = !h.points.length;
      if (!h.points.length) { table.replaceChildren(); return; }
      const c = columns(h);
      const axis = { stroke: color("--text") || (dark.matches ? "#ddd" : "#333"), grid: { stroke: dark.matches ? "#8884" : "#8883" }, ticks: { stroke: "#8886" } };
      const short = range === "1h" || range === "24h";
      /** @type {Intl.DateTimeFormatOptions} */
      const format = short ? { hour: "2-digit", minute: "2-digit" } : { day: "2-digit", month: "2-digit" };
      const names = new Intl.DateTimeFormat(language, format);
      const time = { ...axis, values: (/** @type {any} */ _, /** @type {number[]} */ list) => list.map((t) => names.format(new Date(t * 1000))) };
      for (const box of boxes) {
        const load = box.dataset.plot === "load";
        const series = load ? [[card.dataset.load + ", %", "#c2410c", 3], [card.dataset.bits, "#0f766e", 4]] : [[card.dataset.people, "#1d4ed8", 1], [card.dataset.meetings, "#7c3aed", 2]];
        box.replaceChildren();
        plots.push(new Plot({
          width: Math.max(240, box.clientWidth), height: 180,
          legend: { show: false }, cursor: { drag: { x: false, y: false } },
          scales: { y: { range: (/** @type {any} */ _, /** @type {number} */ _min, /** @type {number} */ max) => [0, Math.max(load ? 10 : 5, max * 1.1)] } },
          axes: [{ ...time, space: 90 }, { ...axis, size: 48 }],
          series: [{ label: card.dataset.time }, ...series.map(([label, stroke]) => ({ label, stroke, width: 2, spanGaps: false, points: { size: 4 } }))],
        }, [c[0], ...series.map(([, , i]) => c[/** @type {number} */ (i)])], box));
        box.append(legend(series));
      }
      const full = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "short" });
      const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
      /** @param {string} tag @param {(string | undefined)[]} cells */
      const row = (tag, cells) => {
        const tr = document.createElement("tr");
        for (const text of cells) {
          const e = document.createElement(tag);
          e.textContent = text || "";
          if (tag === "th") e.setAttribute("scope", "col");
          tr.append(e);
        }
        return tr;
      };
      table.replaceChildren(row("th", [card.dataset.time, card.dataset.people, card.dataset.meetings, card.dataset.load + ", %", card.dataset.bits]),
        ...[...h.points].reverse().map((p) => row("td", [full.format(new Date(p.at)), number.format(p.participants), number.format(p.meetings), number.format(p.cpu * 100), number.format(p.sendBits / 1e6)])));
    };

    const load = async () => {
      try {
        const r = await fetch(card.dataset.history + "?range=" + range, { headers: { "Accept-Language": language } });
        if (!r.ok) throw new Error(String(r.status));
        draw(await r.json());
      } catch {
        note.textContent = card.dataset.failed || "";
      }
    };
    for (const b of buttons) {
      b.addEventListener("click", () => {
        range = b.dataset.range || range;
        for (const o of buttons) o.setAttribute("aria-pressed", String(o === b));
        load();
      });
    }
    addEventListener("resize", () => { plots.forEach((p, i) => p.setSize({ width: Math.max(240, boxes[i].clientWidth), height: 180 })); });
    dark.addEventListener("change", load);
    setInterval(() => { if (!document.hidden) load(); }, reload);
    load();
  };
  for (const card of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-history]"))) chart(card);
})();

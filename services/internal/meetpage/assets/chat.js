// The chat: lines in a log that screen readers follow, and a form below.

import { t } from "./words.js";

/** @typedef {{from: number, name: string, to?: number, at: string, text: string}} Line */

const most = 500; // lines that are kept on the page

/** @template {Element} T @param {ParentNode} root @param {string} query @param {new () => T} type @returns {T} */
export function find(root, query, type) {
  const e = root.querySelector(query);
  if (!(e instanceof type)) throw new Error("the page has no " + query);
  return e;
}

/** @param {string} tag @param {string} [className] @param {string} [text] */
export function make(tag, className = "", text = "") {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text) e.textContent = text;
  return e;
}

export class Chat {
  /** @param {Element} panel @param {(to: number, text: string) => void} say */
  constructor(panel, say) {
    this.lines = find(panel, ".lines", HTMLElement);
    this.none = find(panel, "[data-none]", HTMLElement);
    this.form = find(panel, "form", HTMLFormElement);
    this.text = find(panel, "textarea", HTMLTextAreaElement);
    this.to = find(panel, "select", HTMLSelectElement);
    this.error = find(panel, "[data-error]", HTMLElement);
    this.you = 0;
    /** @type {Map<number, string>} */
    this.names = new Map();
    /** The last line that went out, until the router took it. */
    this.last = "";
    this.form.addEventListener("submit", (e) => {
      e.preventDefault();
      const text = this.text.value.trim();
      if (!text) return;
      this.error.hidden = true;
      this.last = text;
      say(Number(this.to.value), text);
      this.text.value = "";
    });
    this.text.addEventListener("keydown", (e) => {
      if (e.key !== "Enter" || e.shiftKey || e.isComposing) return;
      e.preventDefault();
      this.form.requestSubmit();
    });
    this.text.addEventListener("input", () => { if (this.text.value === "\n") this.text.value = ""; });
  }

  /** Who can be written to. @param {{id: number, name: string}[]} people */
  people(people) {
    this.names = new Map(people.map((p) => [p.id, p.name]));
    const chosen = this.to.value;
    const others = people.filter((p) => p.id !== this.you);
    const same = others.length + 1 === this.to.options.length && others.every((p, i) => this.to.options[i + 1].value === String(p.id) && this.to.options[i + 1].text === p.name);
    if (same) return;
    this.to.replaceChildren(this.to.options[0], ...others.map((p) => new Option(p.name, String(p.id))));
    this.to.value = others.some((p) => String(p.id) === chosen) ? chosen : "0";
  }

  /** @param {Line[]} lines */
  add(lines) {
    const down = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 40;
    for (const l of lines) {
      const own = l.from === this.you;
      const e = make("div", own ? "line own" : "line");
      const head = make("p", "line-head");
      head.append(make("b", "", own ? t("js.you", l.name) : l.name));
      if (l.to) head.append(make("span", "", own ? t("js.chat-to", this.names.get(l.to) || "…") : t("js.chat-private")));
      const at = document.createElement("time");
      at.dateTime = l.at;
      at.textContent = new Date(l.at).toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
      head.append(at);
      e.append(head, make("p", "line-text", l.text));
      this.lines.append(e);
    }
    this.none.hidden = true;
    while (this.lines.children.length > most) this.lines.children[1].remove();
    if (down) this.lines.scrollTop = this.lines.scrollHeight;
  }

  /** The last line was refused: it comes back into the form. @param {string} text why */
  refused(text) {
    this.error.textContent = text;
    this.error.hidden = false;
    if (!this.text.value) this.text.value = this.last;
  }

  clear() {
    for (const e of this.lines.querySelectorAll(".line")) e.remove();
    this.none.hidden = false;
  }
}

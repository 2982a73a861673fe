// The meeting as it is shown: tiles, the panel of participants, notes. It decides
// what is seen, and asks for those pictures; what happens in the meeting comes in.

import { find, make } from "./chat.js";
import { t } from "./words.js";

/**
 * @typedef {object} Person as package signal has it
 * @property {number} id
 * @property {string} name
 * @property {string} role
 * @property {boolean} [microphone]
 * @property {boolean} [camera]
 * @property {boolean} [screen]
 * @property {boolean} [away]
 *
 * @typedef {object} Handlers
 * @property {(wants: import("./media.js").Want[]) => void} show
 * @property {(id: number, source: string) => MediaStreamTrack | null} picture that plays now
 * @property {() => MediaStreamTrack | null} own the own camera
 * @property {(id: number, admit: boolean) => void} admit
 * @property {() => void} admitAll
 *
 * @typedef {{el: HTMLElement, video: HTMLVideoElement}} Tile
 */

const gap = 10, noteFor = 12000, maxNotes = 3, namesAtOnce = 3;

/** The size of n tiles in a box: as large as they get.
 * @param {number} n @param {number} width @param {number} height @param {number} aspect */
export function fit(n, width, height, aspect) {
  let best = 0;
  for (let c = 1; c <= n; c++) {
    const r = Math.ceil(n / c);
    best = Math.max(best, Math.min((width - gap * (c - 1)) / c, ((height - gap * (r - 1)) / r) * aspect));
  }
  return { width: Math.floor(best), height: Math.floor(best / aspect) };
}

/** The letters that stand for a person without a picture. @param {string} name */
export function initials(name) {
  const parts = name.trim().split(/\s+/).filter((p) => /[\p{L}\p{N}]/u.test(p));
  const letters = parts.length > 1 ? [parts[0], parts[parts.length - 1]] : parts;
  return letters.map((p) => (/[\p{L}\p{N}]/u.exec(p) || [""])[0].toLocaleUpperCase()).join("");
}

/** @param {string} name */
function icon(name, className = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  if (className) svg.setAttribute("class", className);
  use.setAttribute("href", "#i-" + name);
  svg.append(use);
  return svg;
}

/** Puts elements into a list in their order, and leaves those alone that are right.
 * @param {Element} list @param {Element[]} want */
function arrange(list, want) {
  for (const e of [...list.children]) if (!want.includes(e)) e.remove();
  want.forEach((e, i) => { if (list.children[i] !== e) list.insertBefore(e, list.children[i] || null); });
}

export class Room {
  /** @param {HTMLElement} root @param {Handlers} on */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.view = find(root, ".view", HTMLElement);
    this.stage = find(root, ".stage", HTMLElement);
    this.tiles = find(root, ".tiles", HTMLElement);
    this.stageList = document.createElement("ul");
    this.stage.append(this.stageList);
    this.pages = find(root, ".pages", HTMLElement);
    this.notes = find(root, ".notes", HTMLElement);
    this.list = find(root, "[data-people]", HTMLElement);
    this.lobbyBox = find(root, ".lobby", HTMLElement);
    this.lobbyList = find(root, "[data-lobby]", HTMLElement);
    this.you = 0;
    /** @type {Map<number, Person>} */
    this.people = new Map();
    /** @type {Map<number, {id: number, name: string}>} */
    this.lobby = new Map();
    this.speaker = 0;
    this.heard = 0; // the last speaker who was not oneself
    this.stageWanted = false;
    this.page = 0;
    this.hidden = document.hidden;
    /** @type {Map<string, Tile>} */
    this.all = new Map();
    this.known = false; // the first roster has come
    this.alone = false; // one was told
    this.due = false;
    this.resized = new ResizeObserver(() => this.render());
    this.resized.observe(this.view);
    this.seen = () => { this.hidden = document.hidden; this.render(); };
    document.addEventListener("visibilitychange", this.seen);
    for (const b of this.pages.querySelectorAll("button")) b.addEventListener("click", () => { this.page += Number(b.dataset.page); this.render(); });
    find(root, "[data-admit-all]", HTMLElement).addEventListener("click", () => on.admitAll());
  }

  end() {
    this.resized.disconnect();
    document.removeEventListener("visibilitychange", this.seen);
  }

  /** @param {{full?: boolean, people?: Person[], gone?: number[]}} m */
  roster(m) {
    const before = new Map(this.people);
    if (m.full) this.people.clear();
    for (const p of m.people || []) this.people.set(p.id, p);
    for (const id of m.gone || []) this.people.delete(id);
    if (this.known) {
      this.tell("js.joined", [...this.people.values()].filter((p) => !before.has(p.id) && p.id !== this.you));
      this.tell("js.left", [...before.values()].filter((p) => !this.people.has(p.id) && p.id !== this.you));
    }
    this.known = true;
    this.render();
  }

  /** @param {string} key @param {{name: string}[]} people */
  tell(key, people) {
    if (!people.length) return;
    const names = people.slice(0, namesAtOnce).map((p) => p.name);
    if (people.length > names.length) names.push(t("js.more", people.length - names.length));
    const text = t(names.length > 1 ? key + "-many" : key, names.join(", "));
    if (this.root.dataset.panel === "people") find(document, "#said", HTMLElement).textContent = text; // the list shows it
    else this.note(text, undefined, undefined, "", key);
  }

  /** @param {{full?: boolean, people?: {id: number, name: string}[], gone?: number[]}} m */
  waits(m) {
    if (m.full) this.lobby.clear();
    for (const p of m.people || []) {
      if (!this.lobby.has(p.id) && this.root.dataset.panel !== "people") this.note(t("js.waits", p.name), { label: t("js.admit"), name: t("js.admit-name", p.name), act: () => this.on.admit(p.id, true) }, "lobby-" + p.id);
      this.lobby.set(p.id, p);
    }
    for (const id of m.gone || []) this.lobby.delete(id);
    for (const n of [...this.notes.children]) if (n instanceof HTMLElement && n.dataset.key?.startsWith("lobby-") && !this.lobby.has(Number(n.dataset.key.slice(6)))) n.remove();
    this.render();
  }

  /** @param {number} id */
  speaks(id) {
    this.speaker = id;
    if (id && id !== this.you) this.heard = id;
    this.render();
  }

  /** Shows a note for a while; one with an action or a key stays.
   * @param {string} text @param {{label: string, name?: string, act: () => void}} [action] @param {string} [key] one of a key at a time
   * @param {string} [kind] @param {string} [instead] of the last one of this sort */
  note(text, action, key, kind = "", instead = "") {
    for (const e of this.notes.children) if (instead && e instanceof HTMLElement && e.dataset.sort === instead) e.remove();
    const old = key && [...this.notes.children].find((n) => n instanceof HTMLElement && n.dataset.key === key);
    if (old) {
      if (old.firstElementChild?.textContent === text) return;
      old.remove();
    }
    const n = make("div", "note " + kind);
    if (key) n.dataset.key = key;
    if (instead) n.dataset.sort = instead;
    n.append(make("span", "", text));
    if (action) {
      const b = make("button", "small", action.label);
      b.setAttribute("type", "button");
      if (action.name) b.setAttribute("aria-label", action.name);
      b.addEventListener("click", () => { n.remove(); action.act(); });
      n.append(b);
    }
    const close = make("button", "quiet icon");
    close.setAttribute("type", "button");
    close.setAttribute("aria-label", t("js.dismiss"));
    close.append(icon("close"));
    close.addEventListener("click", () => n.remove());
    n.append(close);
    this.notes.append(n);
    const passing = [...this.notes.children].filter((e) => e instanceof HTMLElement && !e.dataset.key);
    for (const e of passing.slice(0, Math.max(0, passing.length - maxNotes))) e.remove();
    if (!action && !key) setTimeout(() => n.remove(), noteFor);
  }

  /** A panel shows what notes told. @param {string} panel */
  opened(panel) {
    for (const n of [...this.notes.children]) {
      if (!(n instanceof HTMLElement)) continue;
      if ((panel === "chat" && n.dataset.sort === "chat") || (panel === "people" && (n.dataset.key?.startsWith("lobby-") || n.dataset.sort?.startsWith("js.")))) n.remove();
    }
  }

  /** @param {string} key */
  unnote(key) {
    for (const n of [...this.notes.children]) if (n instanceof HTMLElement && n.dataset.key === key) n.remove();
  }

  /** Draws anew, soon. */
  render() {
    if (this.due) return;
    this.due = true;
    setTimeout(() => { this.due = false; this.draw(); }, 20);
  }

  draw() {
    if (!this.root.isConnected) return;
    this.drawPeople();
    if (this.people.size > 1) this.unnote("alone");
    else if (this.known && !this.alone) this.note(t("js.alone"), undefined, "alone");
    this.alone ||= this.known;
    const all = [...this.people.values()];
    const own = this.people.get(this.you);
    const others = all.filter((p) => p.id !== this.you).sort((a, b) => Number(!!b.camera) - Number(!!a.camera) || a.id - b.id);
    const sharer = others.find((p) => p.screen);
    const main = sharer || (this.stageWanted ? this.people.get(this.heard) || others[0] : undefined);
    this.root.dataset.layout = main ? "stage" : "grid";
    const style = getComputedStyle(this.view);
    const wide = this.view.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const high = this.view.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const small = wide < 600;
    /** @type {{p: Person, source: "camera" | "screen", width: number, height: number}[]} */
    const shown = [];
    let list = main && !sharer ? others.filter((p) => p !== main) : others;
    let size, perPage;
    if (main) {
      const height = Math.round(Math.min(small ? 80 : 124, high / 3)), width = Math.round((height * 16) / 9);
      size = { width, height };
      perPage = Math.max(1, Math.floor((wide + gap) / (width + gap)));
      shown.push({ p: main, source: sharer ? "screen" : "camera", width: wide, height: high - height - gap });
    } else {
      perPage = small ? 6 : wide > 1500 ? 25 : 16;
    }
    // Oneself is on each page, at the end.
    const room = Math.max(1, perPage - (own ? 1 : 0));
    const pages = Math.max(1, Math.ceil(list.length / room));
    this.page = Math.max(0, Math.min(this.page, pages - 1));
    list = list.slice(this.page * room, (this.page + 1) * room);
    if (own && (perPage > 1 || list.length === 0)) list = [...list, own];
    if (!size) size = fit(Math.max(1, list.length), wide, high, wide < high ? 4 / 3 : 16 / 9);
    for (const p of list) shown.push({ p, source: "camera", ...size });
    this.pages.hidden = pages === 1;
    if (this.root.hasAttribute("data-paged") !== pages > 1) {
      this.root.toggleAttribute("data-paged", pages > 1); // leaves room for them
      this.render();
    }
    find(this.pages, "[data-page-of]", HTMLElement).textContent = t("js.page-of", this.page + 1, pages);
    const [before, behind] = this.pages.querySelectorAll("button");
    before.disabled = this.page === 0;
    behind.disabled = this.page === pages - 1;

    this.root.style.setProperty("--w", size.width + "px");
    this.root.style.setProperty("--h", size.height + "px");
    const elements = shown.map((s) => this.tile(s.p, s.source).el);
    const keys = new Set(shown.map((s) => s.p.id + " " + s.source));
    for (const [k, tile] of this.all) if (!keys.has(k)) { tile.video.srcObject = null; tile.el.remove(); this.all.delete(k); }
    this.stage.hidden = !main;
    arrange(this.stageList, main ? elements.slice(0, 1) : []);
    arrange(this.tiles, main ? elements.slice(1) : elements);
    this.pictures();
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.on.show(this.hidden ? [] : shown.filter((s) => s.p.id !== this.you && s.p[s.source]).map((s) => ({ id: s.p.id, source: s.source, width: s.width * ratio, height: s.height * ratio })));
  }

  /** The tile of somebody, as he is now. @param {Person} p @param {"camera" | "screen"} source */
  tile(p, source) {
    const key = p.id + " " + source;
    let tile = this.all.get(key);
    if (!tile) {
      const template = find(document, "#part-tile", HTMLTemplateElement);
      const el = find(/** @type {DocumentFragment} */ (template.content.cloneNode(true)), ".tile", HTMLElement);
      tile = { el, video: find(el, "video", HTMLVideoElement) };
      tile.video.addEventListener("loadeddata", () => this.pictures());
      el.dataset.id = String(p.id);
      el.dataset.source = source;
      this.all.set(key, tile);
    }
    const own = p.id === this.you, screen = source === "screen", { el } = tile;
    el.className = "tile" + (own ? " self" : "") + (screen ? " screen" : "") + (p.away ? " away" : "") + (p.id === this.speaker && p.microphone && !screen ? " speaks" : "");
    const name = screen ? t("js.screen-of", p.name) : own ? t("js.you", p.name) : p.name;
    find(el, "[data-name]", HTMLElement).textContent = name;
    find(el, ".avatar", HTMLElement).textContent = initials(p.name);
    find(el, ".tile-name svg", SVGElement).toggleAttribute("hidden", screen || !!p.microphone);
    const marks = [];
    if (!screen && !p.microphone) marks.push(t("js.mark-muted"));
    if (!screen && !p.camera) marks.push(t("js.mark-camera"));
    if (p.away) marks.push(t("js.mark-away"));
    find(el, "[data-marks]", HTMLElement).textContent = marks.length ? ", " + marks.join(", ") : "";
    return tile;
  }

  /** Puts the pictures that play into the tiles. */
  pictures() {
    for (const [key, { el, video }] of this.all) {
      const [id, source] = key.split(" ");
      const p = this.people.get(Number(id));
      const track = !p ? null : p.id === this.you ? this.on.own() : p[source === "screen" ? "screen" : "camera"] ? this.on.picture(p.id, source) : null;
      const now = video.srcObject instanceof MediaStream ? video.srcObject.getVideoTracks()[0] : null;
      if (track !== now) {
        video.srcObject = track ? new MediaStream([track]) : null;
        if (track) video.play().catch(() => { /* taken away again meanwhile */ });
      }
      video.hidden = !track;
      el.classList.toggle("plays", !!track && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA);
    }
  }

  drawPeople() {
    const rank = /** @type {Record<string, number>} */ ({ host: 1, cohost: 2 });
    const sorted = [...this.people.values()].sort((a, b) => Number(b.id === this.you) - Number(a.id === this.you) || (rank[a.role] || 3) - (rank[b.role] || 3) || a.name.localeCompare(b.name));
    arrange(this.list, sorted.map((p) => this.person(p)));
    find(this.root, "[data-people-count]", HTMLElement).textContent = String(this.people.size);
    this.lobbyBox.hidden = this.lobby.size === 0;
    const waiting = [...this.lobby.values()];
    arrange(this.lobbyList, waiting.map((p) => this.guest(p)));
  }

  /** @param {Person} p */
  person(p) {
    const text = JSON.stringify([p, p.id === this.you]);
    const old = this.list.querySelector(`[data-id="${p.id}"]`);
    if (old instanceof HTMLElement && old.dataset.is === text) return old;
    const li = make("li");
    li.dataset.id = String(p.id);
    li.dataset.is = text;
    const avatar = make("span", "avatar", initials(p.name));
    avatar.setAttribute("aria-hidden", "true");
    const name = make("span", "who-name", p.id === this.you ? t("js.you", p.name) : p.name);
    const notes = [];
    if (p.role !== "participant") notes.push(t("js.role-" + p.role));
    if (p.away) notes.push(t("js.mark-away"));
    if (p.screen) notes.push(t("js.mark-screen"));
    if (notes.length) name.append(make("small", "", notes.join(" · ")));
    const marks = make("span", "marks");
    marks.append(icon(p.microphone ? "microphone" : "microphone-off", p.microphone ? "" : "off"), icon(p.camera ? "camera" : "camera-off", p.camera ? "" : "off"));
    const said = [];
    if (!p.microphone) said.push(t("js.mark-muted"));
    if (!p.camera) said.push(t("js.mark-camera"));
    marks.append(make("span", "sr", said.join(", ")));
    li.append(avatar, name, marks);
    return li;
  }

  /** @param {{id: number, name: string}} p */
  guest(p) {
    const old = this.lobbyList.querySelector(`[data-id="${p.id}"]`);
    if (old) return old;
    const li = make("li");
    li.dataset.id = String(p.id);
    const avatar = make("span", "avatar", initials(p.name));
    avatar.setAttribute("aria-hidden", "true");
    const buttons = make("span", "buttons");
    for (const admit of [true, false]) {
      const b = make("button", admit ? "small primary" : "small", t(admit ? "js.admit" : "js.deny"));
      b.setAttribute("type", "button");
      b.setAttribute("aria-label", t(admit ? "js.admit-name" : "js.deny-name", p.name));
      b.addEventListener("click", () => this.on.admit(p.id, admit));
      buttons.append(b);
    }
    li.append(avatar, make("span", "who-name", p.name), buttons);
    return li;
  }
}

// One visit to a meeting: the session, the connection for media, and what is shown
// of both. What the router says goes to where it belongs.

import { Chat, find } from "./chat.js";
import { called, pickers, showSwitch } from "./controls.js";
import { screen as shareScreen, why } from "./devices.js";
import { claims, devices, keep, kept } from "./kept.js";
import { Link } from "./link.js";
import { Media } from "./media.js";
import { Room } from "./room.js";
import { figures } from "./stats.js";
import { fault, has, t } from "./words.js";

const statsEvery = 6000; // more than signal's StatsEvery
const longTrouble = 10000; // milliseconds until trouble gets a hint
const leaveWithin = 1500; // for the router's answer to leave
const rejoins = 3; // by a pass, in rejoinWithin
const rejoinWithin = 60000;

/** The ends after which a pass brings one back. */
const comeBack = new Set(["meet-session", "meet-idle", "meet-overflow", "meet-garbled", "meet-flooded", "meet-moved", "meet-stopping"]);

/**
 * @typedef {object} Screens
 * @property {(code: string) => void} waiting
 * @property {(slow: boolean) => void} slow the server does not answer
 * @property {(topic: string) => HTMLElement} inside
 * @property {(code: string, inside: boolean) => void} over
 */

export class Meeting {
  /** @param {import("./devices.js").Local} local @param {Screens} screens */
  constructor(local, screens) {
    this.local = local;
    this.screens = screens;
    /** @type {Link | undefined} */
    this.link = undefined;
    /** @type {Media | undefined} */
    this.media = undefined;
    /** @type {Room | undefined} */
    this.room = undefined;
    /** @type {Chat | undefined} */
    this.chat = undefined;
    /** @type {HTMLElement | undefined} */
    this.root = undefined;
    /** @type {HTMLAudioElement[]} */
    this.sounds = [];
    this.joined = /** @type {any} */ (null);
    this.settings = /** @type {any} */ (null);
    this.told = false; // the router hears what is on here
    /** What the router was told last.
     * @type {Record<string, boolean>} */
    this.sent = {};
    this.wasInside = false;
    this.ref = 0;
    /** What a refusal takes back, by ref.
     * @type {Map<number, () => void>} */
    this.undo = new Map();
    /** @type {{video: MediaStreamTrack, audio?: MediaStreamTrack} | null} */
    this.screen = null;
    this.unread = 0;
    this.linked = false;
    this.flowing = "connecting";
    this.troubleSince = 0;
    this.slowSince = 0; // the same before one is inside
    this.over = false;
    this.freshTries = 0;
    this.why = ""; // the session before was lost
    /** @type {number[]} */
    this.came = []; // when a pass was used
    /** @type {import("./stats.js").Sums | null} */
    this.sums = null;
    this.statsTimer = setInterval(() => this.stats(), statsEvery);
    this.troubleTimer = setInterval(() => this.trouble(), 1000);
    this.onKey = (/** @type {KeyboardEvent} */ e) => this.key(e);
    this.onSpeaker = () => this.speaker();
    this.onDevices = () => { const d = this.root?.querySelector("dialog"); if (d?.open) void pickers(d, this.local); };
    document.addEventListener("keydown", this.onKey);
    document.addEventListener("speaker", this.onSpeaker);
    navigator.mediaDevices?.addEventListener("devicechange", this.onDevices);
    local.changed = () => this.changed();
  }

  /** Opens the session: the one of before, or one by the ticket. */
  begin() {
    this.open(kept.session ? { saved: kept.session } : { ticket: kept.ticket || "" });
  }

  /** @param {{ticket: string} | {saved: import("./session.js").Saved}} from */
  open(from) {
    this.link?.stop();
    // Where this router is lost, the ticket is good at another one until a pass comes.
    if ("ticket" in from) keep({ pass: from.ticket });
    const others = (document.body.dataset.origins || "").split(" ").filter((o) => o && o !== location.origin);
    // The controller that answered last is asked first: the page's own may be lost.
    this.link = new Link(from, this.link?.origins ?? [location.origin, ...others], {
      message: (m) => this.message(m),
      state: (open) => { this.linked = open; this.trouble(); },
      closed: (code) => this.closed(code),
      keep: (session) => keep({ session, ticket: undefined }),
    });
  }

  /** @param {string} code */
  closed(code) {
    const now = Date.now();
    this.came = this.came.filter((at) => now - at < rejoinWithin);
    if (comeBack.has(code) && kept.pass && claims(kept.pass).expires > now && this.came.length < rejoins) {
      this.came.push(now);
      this.why ||= code;
      keep({ session: undefined });
      this.forget();
      this.open({ ticket: kept.pass });
      return;
    }
    this.end();
    // That the way back was none is not what one wants to know.
    this.screens.over((code === "meet-used" || code === "meet-ticket") && this.why ? this.why : code, !!this.joined);
  }

  /** What the router told is no more. */
  forget() {
    this.media?.end();
    this.media = undefined;
    this.told = false;
    this.settings = null;
    this.undo.clear();
  }

  end() {
    this.over = true;
    clearInterval(this.statsTimer);
    clearInterval(this.troubleTimer);
    document.removeEventListener("keydown", this.onKey);
    document.removeEventListener("speaker", this.onSpeaker);
    navigator.mediaDevices?.removeEventListener("devicechange", this.onDevices);
    this.media?.end();
    this.room?.end();
    this.link?.stop();
    for (const s of this.sounds) { s.srcObject = null; s.remove(); }
    this.screen?.video.stop();
    this.screen?.audio?.stop();
    this.local.changed = () => {};
  }

  leave() {
    if (this.over) return;
    this.link?.send({ kind: "leave" });
    setTimeout(() => { if (!this.over) { this.end(); this.screens.over("meet-left", true); } }, leaveWithin);
  }

  /** @param {import("./session.js").Message} m */
  message(m) {
    switch (m.kind) {
      case "waiting": this.screens.waiting(m.why); break;
      case "joined": this.enter(m); break;
      case "answer": void this.media?.answer({ ref: m.ref, sdp: m.sdp }); break;
      case "slots": this.media?.slots(m.slots || []); break;
      case "layers": this.media?.watch(m.source, m.rids || []); break;
      case "roster": this.roster(m); break;
      case "lobby": this.room?.waits(/** @type {any} */ (m)); break;
      case "settings": this.set(m); break;
      case "speaker": this.room?.speaks(m.id); break;
      case "chat": this.lines(m); break;
      case "notice": this.notice(m); break;
      case "error": this.refused(m); break;
      case "pass": keep({ pass: m.ticket }); break;
      case "restart": this.media?.moved(); break;
    }
  }

  /** @param {import("./session.js").Message} m */
  enter(m) {
    this.forget();
    this.joined = m;
    this.why = "";
    keep({ topic: m.topic, number: m.number });
    if (!this.root?.isConnected) this.furnish(m.topic || "");
    if (!this.room || !this.chat || !this.root) return;
    this.chat.clear();
    this.room.known = false;
    this.room.you = this.chat.you = m.you;
    find(this.root, "#topic", HTMLElement).textContent = m.topic || t("js.meeting");
    find(this.root, "[data-test]", HTMLElement).hidden = !m.test;
    this.flowing = "connecting";
    this.media = new Media(m.relay, {
      send: (o) => this.link?.send(o),
      slots: () => this.room?.pictures(),
      voice: (track) => this.voice(track),
      state: (s) => { this.flowing = s; if (s === "connected") this.freshTries = 0; this.trouble(); },
      failed: () => this.anew(),
    });
    this.sums = null;
    this.trouble();
  }

  /** Media cannot be had in this session: the page resumes as if it were loaded anew,
   * with longer and longer pauses. */
  anew() {
    this.flowing = "broken";
    this.media = undefined;
    this.trouble();
    const wait = Math.min(30000, 1000 * 4 ** this.freshTries++);
    setTimeout(() => {
      if (this.over || this.media || !kept.session) return;
      this.told = false;
      this.open({ saved: kept.session });
    }, wait);
  }

  /** Makes the screen of the meeting. @param {string} topic */
  furnish(topic) {
    const root = (this.root = this.screens.inside(topic));
    this.room?.end();
    this.room = new Room(root, {
      show: (wants) => this.media?.show(wants),
      picture: (id, source) => this.media?.picture(id, source) || null,
      own: () => this.local.track.camera,
      admit: (id, admit) => this.command({ do: admit ? "admit" : "deny", id }),
      admitAll: () => this.command({ do: "admit-all" }),
    });
    this.chat = new Chat(find(root, "#panel-chat", HTMLElement), (to, text) => {
      const ref = ++this.ref;
      this.link?.send({ kind: "chat", ref, ...(to ? { to } : {}), text });
    });
    /** @param {string} name @param {() => void} act */
    const on = (name, act) => find(root, `[data-do="${name}"]`, HTMLElement).addEventListener("click", act);
    on("microphone", () => this.toggle("microphone"));
    on("camera", () => this.toggle("camera"));
    on("screen", () => this.share());
    on("people", () => this.panel("people"));
    on("chat", () => this.panel("chat"));
    on("leave", () => this.leave());
    on("layout", () => this.layout());
    on("settings", () => {
      const d = find(root, "dialog", HTMLDialogElement);
      d.showModal();
      void pickers(d, this.local);
    });
    for (const b of root.querySelectorAll("[data-close]")) b.addEventListener("click", () => this.panel(""));
    if (!navigator.mediaDevices || !("getDisplayMedia" in navigator.mediaDevices)) find(root, '[data-do="screen"]', HTMLElement).hidden = true;
    this.layout(false);
    this.changed();
    void this.awake();
  }

  /** A phone's screen stays on. */
  async awake() {
    try { await /** @type {any} */ (navigator).wakeLock?.request("screen"); } catch { /* then it goes off */ }
  }

  /** @param {boolean} [stage] */
  layout(stage = !this.room?.stageWanted) {
    if (!this.room || !this.root) return;
    this.room.stageWanted = stage;
    this.room.page = 0;
    const b = find(this.root, '[data-do="layout"]', HTMLElement);
    b.setAttribute("aria-label", t(stage ? "js.layout-grid" : "js.layout-stage"));
    b.title = b.getAttribute("aria-label") || "";
    find(b, "use", SVGElement).setAttribute("href", stage ? "#i-grid" : "#i-stage");
    this.room.render();
  }

  /** Opens a panel, or closes it. @param {string} name */
  panel(name) {
    if (!this.root) return;
    const now = this.root.dataset.panel || "";
    const open = name === now ? "" : name;
    if (open) this.root.dataset.panel = open;
    else delete this.root.dataset.panel;
    for (const p of ["people", "chat"]) {
      find(this.root, "#panel-" + p, HTMLElement).hidden = p !== open;
      find(this.root, `[data-do="${p}"]`, HTMLElement).setAttribute("aria-expanded", String(p === open));
    }
    this.room?.opened(open);
    if (open === "chat") {
      this.unread = 0;
      this.count();
      const lines = find(this.root, ".lines", HTMLElement);
      lines.scrollTop = lines.scrollHeight;
      find(this.root, "#say", HTMLElement).focus();
    } else if (open) {
      find(this.root, `#${open}-title`, HTMLElement).focus();
    } else if (now) {
      find(this.root, `[data-do="${now}"]`, HTMLElement).focus();
    }
    this.room?.render();
  }

  count() {
    if (!this.root) return;
    const b = find(this.root, "[data-unread]", HTMLElement);
    b.textContent = String(this.unread);
    b.hidden = this.unread === 0;
    if (this.unread) b.setAttribute("aria-label", t("js.chat-unread", this.unread));
  }

  /** @param {KeyboardEvent} e */
  key(e) {
    if (e.code === "Escape" && this.root?.dataset.panel && !this.root.querySelector("dialog[open]")) {
      this.panel("");
      return;
    }
    if (!e.altKey || e.ctrlKey || e.metaKey || e.shiftKey || e.repeat || !this.root?.isConnected) return;
    const text = e.target instanceof HTMLTextAreaElement || e.target instanceof HTMLInputElement;
    const name = /** @type {Record<string, string>} */ ({ KeyA: "microphone", KeyV: "camera", KeyS: "screen", KeyU: "people", KeyH: "chat" })[e.code];
    // Where Alt writes letters (macOS), it does so in a text.
    if (!name || (text && e.key.length === 1 && !/^[a-z]$/i.test(e.key) && !/[а-яё]/i.test(e.key))) return;
    e.preventDefault();
    find(this.root, `[data-do="${name}"]`, HTMLElement).click();
  }

  /** @param {object} c */
  command(c) { this.link?.send({ kind: "command", ref: ++this.ref, ...c }); }

  /** Tells the router what is on, and takes it back if that is refused.
   * @param {Record<string, boolean>} state @param {() => void} [undo] */
  state(state, undo) {
    const ref = ++this.ref;
    if (undo) this.undo.set(ref, undo);
    if (this.undo.size > 50) this.undo.delete(/** @type {number} */ (this.undo.keys().next().value));
    this.link?.send({ kind: "state", ref, ...state });
  }

  /** Devices went on or off. */
  changed() {
    keep({ microphone: this.local.on.microphone, camera: this.local.on.camera });
    if (!this.root || !this.room) return;
    for (const kind of /** @type {const} */ (["microphone", "camera"])) {
      showSwitch(this.root, kind, this.local.on[kind]);
      void this.media?.put(kind, this.local.track[kind]);
      if (this.local.why[kind]) this.room.note(t(`js.media-${this.local.why[kind]}-${kind}`), undefined, "why-" + kind, "warn");
      else this.room.unnote("why-" + kind);
    }
    this.tell();
    this.room.render();
  }

  /** Brings the router up to date with what is on here. */
  tell() {
    if (!this.told) return;
    const own = this.sent;
    /** @type {Record<string, boolean>} */
    const change = {};
    for (const kind of /** @type {const} */ (["microphone", "camera"])) {
      const on = this.local.on[kind] && !!this.local.track[kind];
      if (own[kind] !== on) change[kind] = on;
    }
    if (!Object.keys(change).length) return;
    this.sent = { ...own, ...change };
    for (const kind of Object.keys(change)) {
      this.state({ [kind]: change[kind] }, () => {
        this.sent = { ...this.sent, [kind]: false };
        if (kind === "microphone" || kind === "camera") void this.local.set(kind, false);
      });
    }
  }

  /** @param {"microphone" | "camera"} kind */
  async toggle(kind) {
    await this.local.set(kind, !this.local.on[kind]);
  }

  /** @param {import("./session.js").Message} m */
  set(m) {
    const first = !this.settings;
    this.settings = m;
    if (!first || this.told) return;
    const leads = this.joined?.role === "host" || this.joined?.role === "cohost";
    const muted = m.muteOnJoin && !leads && this.local.on.microphone && !this.wasInside;
    this.wasInside = true;
    this.told = true;
    this.sent = {};
    if (muted) {
      void this.local.set("microphone", false);
      this.room?.note(t("js.muted-on-join"));
    }
    this.changed();
    if (this.screen) void this.shared(this.screen);
  }

  async share() {
    if (this.screen) {
      this.unshare();
      return;
    }
    try {
      await this.shared(await shareScreen());
    } catch (e) {
      if (why(e) !== "blocked") this.room?.note(t(`js.media-${why(e)}-screen`), undefined, "why-screen", "warn");
    }
  }

  /** @param {{video: MediaStreamTrack, audio?: MediaStreamTrack}} s */
  async shared(s) {
    this.screen = s;
    s.video.onended = () => { if (this.screen === s) this.unshare(); };
    await this.media?.put("screen", s.video);
    if (s.audio) await this.media?.put("screenaudio", s.audio);
    this.state({ screen: true }, () => this.unshare(false));
    this.drawShare();
  }

  /** @param {boolean} [tell] */
  unshare(tell = true) {
    if (!this.screen) return;
    this.screen.video.stop();
    this.screen.audio?.stop();
    this.screen = null;
    void this.media?.put("screen", null);
    void this.media?.put("screenaudio", null);
    if (tell) this.state({ screen: false });
    this.drawShare();
  }

  drawShare() {
    if (!this.root) return;
    const b = find(this.root, '[data-do="screen"]', HTMLElement), on = !!this.screen;
    b.toggleAttribute("data-on", on);
    called(b, on ? "js.do-unshare" : "js.do-share", t(on ? "js.share-stop" : "js.share"));
    find(b, "use", SVGElement).setAttribute("href", on ? "#i-screen-off" : "#i-screen");
    if (on) this.room?.note(t("js.your-screen"), { label: t("js.stop"), name: t("js.share-stop"), act: () => this.unshare() }, "sharing");
    else this.room?.unnote("sharing");
  }

  /** @param {import("./session.js").Message} m */
  roster(m) {
    if (!this.room || !this.chat) return;
    this.room.roster(/** @type {any} */ (m));
    this.chat.people([...this.room.people.values()]);
    this.drawShare();
  }

  /** @param {import("./session.js").Message} m */
  lines(m) {
    this.chat?.add(m.lines);
    const news = m.past ? [] : m.lines.filter((/** @type {{from: number}} */ l) => l.from !== this.joined?.you);
    if (!news.length || this.root?.dataset.panel === "chat") return;
    this.unread += news.length;
    this.count();
    const last = news[news.length - 1];
    const text = last.text.length > 120 ? last.text.slice(0, 120) + "…" : last.text;
    this.room?.note(t("js.chat-from", last.name, text), undefined, undefined, "", "chat");
  }

  /** @param {import("./session.js").Message} m */
  notice(m) {
    const text = fault(m.code);
    switch (m.code) {
      case "meet-was-muted": this.sent = { ...this.sent, microphone: false }; void this.local.set("microphone", false); break;
      case "meet-was-stopped": this.sent = { ...this.sent, camera: false }; void this.local.set("camera", false); break;
      case "meet-share-stopped": this.unshare(false); break;
      case "meet-please-unmute":
        this.room?.note(text, { label: t("js.unmute"), act: () => void this.local.set("microphone", true) }, m.code);
        return;
      case "meet-please-video":
        this.room?.note(text, { label: t("js.camera-on"), act: () => void this.local.set("camera", true) }, m.code);
        return;
    }
    this.room?.note(text);
  }

  /** @param {import("./session.js").Message} m */
  refused(m) {
    const text = has("fault." + m.code) ? fault(m.code, m.args) : m.code;
    const undo = this.undo.get(m.ref);
    this.undo.delete(m.ref);
    undo?.();
    if (m.of === "offer") {
      console.error(text);
      this.media?.refused(m.ref);
    } else if (m.of === "chat") {
      this.chat?.refused(text);
    } else if (m.of !== "stats" && m.of !== "view") {
      this.room?.note(text, undefined, undefined, "warn");
    }
  }

  /** A line of sound: each has an element of its own. @param {MediaStreamTrack} track */
  voice(track) {
    for (const s of this.sounds) if (s.srcObject instanceof MediaStream && s.srcObject.getTracks()[0].readyState === "ended") s.remove();
    this.sounds = this.sounds.filter((s) => s.isConnected);
    const a = document.createElement("audio");
    a.srcObject = new MediaStream([track]);
    document.body.append(a);
    this.sounds.push(a);
    this.speaker();
    this.play(a);
  }

  /** @param {HTMLAudioElement} a */
  play(a) {
    a.play().catch((e) => {
      if (e.name !== "NotAllowedError") return;
      this.room?.note(t("js.sound-blocked"), { label: t("js.sound-on"), act: () => { for (const s of this.sounds) this.play(s); } }, "sound", "warn");
    });
  }

  /** Plays on the loudspeaker that was chosen. */
  speaker() {
    const id = devices().speaker;
    if (!id) return;
    for (const s of this.sounds) /** @type {any} */ (s).setSinkId?.(id)?.catch(() => { /* it is gone: the default plays */ });
  }

  /** Shows how the connection is, and after a while what can be done. */
  trouble() {
    if (!this.root?.isConnected || !this.room) {
      this.slowSince = this.linked ? 0 : this.slowSince || Date.now();
      this.screens.slow(!this.linked && Date.now() - this.slowSince > longTrouble);
      return;
    }
    const state = !this.linked ? "lost" : this.flowing;
    const ok = state === "connected";
    const e = find(this.root, "[data-link]", HTMLElement);
    const text = t(state === "lost" ? "js.link-lost" : ok ? "js.link-ok" : state === "broken" ? "js.media-lost" : "js.link-media");
    const words = find(e, "span", HTMLElement);
    if (words.textContent !== text) words.textContent = text;
    e.dataset.state = ok ? "ready" : state === "connecting" ? "starting" : "unhealthy";
    if (ok) {
      this.troubleSince = 0;
      this.room.unnote("trouble");
      return;
    }
    this.troubleSince ||= Date.now();
    const long = Date.now() - this.troubleSince > longTrouble;
    if (long) this.room.note(t(state === "lost" ? "js.link-lost-long" : "js.media-lost-long"), undefined, "trouble", "bad");
    else if (state !== "connecting") this.room.note(text, undefined, "trouble", "warn");
  }

  async stats() {
    if (!this.media || this.media.ended || !this.linked) return;
    const { stats, sums } = figures(await this.media.pc.getStats(), this.sums);
    this.sums = sums;
    this.link?.send({ kind: "stats", ...stats });
  }
}

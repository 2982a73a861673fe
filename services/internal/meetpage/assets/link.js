// A session's links: WebSockets to this controller, or to another one of the zone
// when this one is lost. What travels on them is session.js.

import { Client } from "./session.js";

const connectWithin = 10000; // milliseconds until a WebSocket that does not open is given up
const restarting = 1012; // "service restart" (IANA's registry of close codes): this controller stops
const delays = [0, 500, 1000, 2000, 4000, 8000];

/** How long to wait before a try: at once, then longer and longer, each less up to
 * half by chance, so that not everybody comes at the same moment.
 * @param {number} tries that have failed @param {number} chance 0 to 1 */
export const delay = (tries, chance) => delays[Math.min(tries, delays.length - 1)] * (1 - chance / 2);

/** Which of the origins a try goes to: the one that worked last twice, then the
 * others by turns.
 * @param {number} tries @param {number} count */
export const turn = (tries, count) => (tries < 2 ? 0 : (tries - 1) % count);

/**
 * @typedef {object} Handlers
 * @property {(m: import("./session.js").Message) => void} message
 * @property {(open: boolean) => void} state messages travel, or do not
 * @property {(code: string) => void} closed it is over
 * @property {(s: import("./session.js").Saved) => void} keep what a reload needs has changed
 */

export class Link {
  /** @param {{ticket: string} | {saved: import("./session.js").Saved}} from @param {string[]} origins this one first @param {Handlers} on */
  constructor(from, origins, on) {
    this.on = on;
    this.origins = origins;
    this.client = new Client(from, Date.now());
    /** @type {WebSocket | null} */
    this.socket = null;
    this.number = 0;
    this.tries = 0;
    this.was = false;
    this.over = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retry = undefined;
    // The network came back, as another one perhaps: the old link leads nowhere.
    this.soon = () => {
      if (this.socket?.readyState === WebSocket.CONNECTING) return;
      this.client.down(this.client.link, Date.now());
      this.tries = 0;
      this.drop();
      this.pump();
    };
    addEventListener("online", this.soon);
    this.connect();
  }

  /** @param {import("./session.js").Message} m its kind is the first member */
  send(m) {
    this.client.send(m);
    this.pump();
  }

  /** Ends the links; the session is left to the router. */
  stop() {
    this.over = true;
    clearTimeout(this.timer);
    clearTimeout(this.retry);
    removeEventListener("online", this.soon);
    this.drop();
  }

  drop() {
    const s = this.socket;
    this.socket = null;
    s?.close();
  }

  connect() {
    this.retry = undefined;
    if (this.over || !this.client.wants) return;
    this.drop();
    const origin = this.origins[turn(this.tries, this.origins.length)];
    const url = new URL("/signal", origin);
    url.protocol = "wss:";
    if (this.client.meeting) url.searchParams.set("m", this.client.meeting);
    const socket = new WebSocket(url);
    this.socket = socket;
    this.tries++;
    let number = 0;
    const patience = setTimeout(() => socket.close(), connectWithin);
    socket.onopen = () => {
      clearTimeout(patience);
      if (this.socket !== socket) return;
      number = this.client.up(Date.now());
      const saved = this.client.save();
      if (saved) this.on.keep(saved);
      this.pump();
    };
    socket.onmessage = (e) => {
      if (this.socket !== socket || typeof e.data !== "string") return;
      const session = this.client.session, next = this.client.next_;
      const m = this.client.receive(number, e.data, Date.now());
      if (this.client.session !== session || this.client.next_ !== next) {
        const saved = this.client.save();
        if (saved) this.on.keep(saved);
        // The controller that answered is the first to ask from now on.
        this.origins = [origin, ...this.origins.filter((o) => o !== origin)];
        this.tries = 0;
      }
      if (m) this.on.message(m);
      this.pump();
    };
    socket.onclose = (e) => {
      clearTimeout(patience);
      if (this.socket !== socket) return;
      this.socket = null;
      if (e.code === restarting && this.origins.length > 1) this.origins = [...this.origins.slice(1), origin];
      if (number) this.client.down(number, Date.now());
      this.pump();
    };
  }

  /** @param {number} [wait] milliseconds */
  reconnect(wait = delay(this.tries, Math.random())) {
    if (this.over || !this.client.wants || this.socket?.readyState === WebSocket.CONNECTING) return;
    if (this.retry !== undefined && wait > 0) return;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), wait);
  }

  /** Writes what is due, and comes again when more is. */
  pump() {
    if (this.over) return;
    const now = Date.now();
    const out = this.client.poll(now);
    if (this.socket?.readyState === WebSocket.OPEN) for (const f of out) this.socket.send(f);
    const open = this.client.open;
    if (open !== this.was) {
      this.was = open;
      this.on.state(open);
    }
    const code = this.client.closed;
    if (code) {
      this.stop();
      this.on.closed(code);
      return;
    }
    if (this.client.wants && this.socket?.readyState !== WebSocket.CONNECTING) {
      this.drop();
      this.reconnect();
    }
    clearTimeout(this.timer);
    const next = this.client.next();
    if (next) this.timer = setTimeout(() => this.pump(), Math.max(next - now, 10));
  }
}

// The session between a meeting page and a router: the page's end of what Go's
// package signal describes, with the same rules, times and bounds, as its Client
// does it. It is pure: links, time (milliseconds) and secrets come in. A test
// replays what the Go client did and wants the same frames.

/**
 * @typedef {object} Opened
 * @property {string} meeting
 * @property {string} session
 *
 * @typedef {object} Frame
 * @property {number} [n]
 * @property {number} [ack]
 * @property {any} [body] a message as it came, or the text of one that goes
 * @property {boolean} [ping]
 * @property {Opened} [opened]
 * @property {{code: string}} [closed]
 * @property {boolean} [drop]
 *
 * @typedef {object} Saved what a page keeps over a reload
 * @property {string} meeting
 * @property {string} session
 * @property {string} secret
 * @property {string} next
 * @property {number} link
 *
 * @typedef {{kind: string} & Record<string, any>} Message
 */

export const openRetry = 2000, ackAfter = 100, resend = 1000, resendMost = 8000, pingAfter = 5000;
export const silence = 15000, resumeWithin = 120000, window = 64;
export const maxFrame = 384 << 10, maxCount = 256, maxBytes = 1 << 20;
const frameRoom = 128; // what a frame adds to a body, bytes

/** Why a session is over without the router's word, as in package signal. */
export const idle = "meet-idle", overflow = "meet-overflow", garbled = "meet-garbled";

/** The kinds of messages that routers send. */
const kinds = new Set(["waiting", "joined", "answer", "slots", "layers", "roster", "lobby", "settings", "speaker", "chat", "reactions", "notice", "error", "pass", "restart"]);
const members = new Set(["n", "ack", "body", "ping", "opened", "closed", "drop"]);
const encoder = new TextEncoder();

/** @param {unknown} v */
const number = (v) => v === undefined || (Number.isSafeInteger(v) && /** @type {number} */ (v) >= 0);
/** @param {unknown} v */
const flag = (v) => v === undefined || typeof v === "boolean";
/** @param {unknown} v */
const text = (v) => typeof v === "string" && v !== "" && v.length <= 64;

/** Reads a frame of a router; null: it breaks the rules.
 * @param {string} s @returns {Frame | null} */
export function parse(s) {
  if (s.length > maxFrame) return null;
  let f;
  try { f = JSON.parse(s); } catch { return null; }
  if (typeof f !== "object" || f === null || Array.isArray(f)) return null;
  for (const k of Object.keys(f)) if (!members.has(k)) return null;
  if (!number(f.n) || !number(f.ack) || !flag(f.ping) || !flag(f.drop)) return null;
  const body = f.body !== undefined && f.body !== null;
  if (body !== (f.n > 0) || (f.body === null)) return null;
  const firsts = [f.opened, f.closed, f.drop || undefined].filter((v) => v !== undefined).length;
  if (firsts > 1 || (firsts === 1 && (body || f.ping))) return null;
  if (f.opened !== undefined && (!text(f.opened?.meeting) || !text(f.opened?.session))) return null;
  if (f.closed !== undefined && typeof f.closed?.code !== "string") return null;
  return f;
}

/** Writes a frame, the text of its body as it is.
 * @param {{n?: number, ack?: number, body?: string, ping?: boolean, open?: object}} f */
export function format(f) {
  const parts = [];
  if (f.n) parts.push(`"n":${f.n}`);
  if (f.ack) parts.push(`"ack":${f.ack}`);
  if (f.body) parts.push(`"body":${f.body}`);
  if (f.ping) parts.push(`"ping":true`);
  if (f.open) parts.push(`"open":${JSON.stringify(f.open)}`);
  return "{" + parts.join(",") + "}";
}

/** A new secret: 32 random bytes in base64url. */
export function newSecret() {
  const b = crypto.getRandomValues(new Uint8Array(32));
  return btoa(String.fromCharCode(...b)).replaceAll("+", "-").replaceAll("/", "_").replace("=", "");
}

/** What one end owes the other, and what it has from it.
 *
 *     linked ⇄ down ──▶ lost
 *        └──────────────▲
 */
class Session {
  /** @param {number} now */
  constructor(now) {
    this.lost = "";
    this.linked = false;
    this.down = now; // since when, while not linked
    /** @type {{n: number, body: string, size: number}[]} */
    this.queue = []; // from acked+1 on
    this.bytes = 0;
    this.acked = 0; // by the router
    this.sent = 0; // on this link, all up to it
    this.most = 0; // that was ever sent
    this.got = 0; // from the router, with all before it
    this.ackAt = 0; // when what was got must be acknowledged; 0: it is
    this.resendAt = 0; // 0: nothing is under way
    this.wait = resend;
    this.heard = 0;
    this.pinged = 0;
  }

  /** @param {string} body */
  send(body) {
    if (this.lost) return;
    const size = encoder.encode(body).length;
    if (this.queue.length >= maxCount || this.bytes + size > maxBytes || size > maxFrame - frameRoom) {
      this.lose(overflow);
      return;
    }
    this.queue.push({ n: this.acked + this.queue.length + 1, body, size });
    this.bytes += size;
  }

  /** @param {number} ack @param {number} now */
  attach(ack, now) {
    if (this.lost || !this.takeAck(ack, now)) return;
    this.linked = true;
    this.heard = this.pinged = now;
    this.sent = this.acked;
    this.ackAt = this.resendAt = 0;
    this.wait = resend;
  }

  /** @param {number} now */
  detach(now) {
    if (this.linked) { this.linked = false; this.down = now; }
  }

  /** @param {Frame} f @param {number} now @returns {any} the body that comes next, or undefined */
  receive(f, now) {
    if (this.lost || !this.linked) return undefined;
    this.heard = now;
    if (!this.takeAck(f.ack || 0, now)) return undefined;
    if (f.ping) this.ackAt = now;
    if (!f.n) return undefined;
    if (f.n === this.got + 1) {
      this.got++;
      if (!this.ackAt) this.ackAt = now + ackAfter;
      return f.body;
    }
    if (f.n <= this.got) this.ackAt = now; // the router does not know
    return undefined;
  }

  /** @param {number} ack @param {number} now */
  takeAck(ack, now) {
    if (ack > this.most) {
      this.lose(garbled);
      return false;
    }
    if (ack <= this.acked) return true;
    for (const q of this.queue.splice(0, ack - this.acked)) this.bytes -= q.size;
    this.acked = ack;
    this.sent = Math.max(this.sent, ack);
    this.wait = resend;
    this.resendAt = this.sent > this.acked ? now + this.wait : 0;
    return true;
  }

  /** @param {string} code */
  lose(code) {
    this.lost = code;
    this.linked = false;
    this.queue = [];
    this.bytes = 0;
  }

  /** @param {number} now @returns {string[]} the frames that go to the link now */
  poll(now) {
    if (this.lost) return [];
    if (!this.linked) {
      if (now >= this.down + resumeWithin) this.lose(idle);
      return [];
    }
    if (now >= this.heard + silence) {
      this.detach(now);
      return [];
    }
    if (this.resendAt && now >= this.resendAt) {
      this.sent = this.acked;
      this.resendAt = 0;
      this.wait = Math.min(2 * this.wait, resendMost);
    }
    const out = [];
    while (this.sent < this.acked + window && this.sent < this.acked + this.queue.length) {
      const q = this.queue[this.sent - this.acked];
      out.push(format({ n: q.n, ack: this.got, body: q.body }));
      this.sent = q.n;
      this.most = Math.max(this.most, q.n);
      if (!this.resendAt) this.resendAt = now + this.wait;
    }
    if (now >= this.heard + pingAfter && now >= this.pinged + pingAfter) {
      this.pinged = now;
      out.push(format({ ack: this.got, ping: true }));
    } else if (out.length === 0 && this.ackAt && now >= this.ackAt) {
      out.push(format({ ack: this.got }));
    }
    if (out.length > 0) this.ackAt = 0;
    return out;
  }

  /** When poll has something to do by itself; 0: never. */
  next() {
    if (this.lost) return 0;
    if (!this.linked) return this.down + resumeWithin;
    let next = this.heard + silence;
    for (const t of [Math.max(this.heard, this.pinged) + pingAfter, this.ackAt, this.resendAt]) if (t && t < next) next = t;
    return next;
  }
}

/** A page's end: it opens the session on each link. */
export class Client {
  /** Begins a session with a ticket or a pass, or resumes one that was saved, and
   * has forgotten all messages then.
   * @param {{ticket: string} | {saved: Saved}} from @param {number} now @param {() => string} [secret] */
  constructor(from, now, secret = newSecret) {
    this.newSecret = secret;
    this.s = new Session(now);
    this.ticket = "ticket" in from ? from.ticket : ""; // until the session is known
    const saved = "saved" in from ? from.saved : { meeting: "", session: "", secret: secret(), next: secret(), link: 0 };
    this.meeting = saved.meeting;
    this.session = saved.session;
    this.secret = saved.secret;
    this.next_ = saved.next;
    this.link = saved.link; // number of the current one; 0 before the first
    this.fresh = "saved" in from;
    this.isUp = false;
    this.openAt = 0; // when open goes out; 0: it was answered
    this.since = 0; // of this link
    this.code = "";
  }

  /** What a page that is loaded anew needs; null while there is no session.
   * @returns {Saved | null} */
  save() {
    if (!this.session) return null;
    return { meeting: this.meeting, session: this.session, secret: this.secret, next: this.next_, link: this.link };
  }

  /** Why all is over, or "". */
  get closed() { return this.code || this.s.lost; }

  /** Whether messages travel. */
  get open() { return this.s.linked; }

  /** Whether a new link is wanted. */
  get wants() { return !this.isUp && !this.closed; }

  /** A new link is there; its number is the answer. Poll then has open.
   * @param {number} now */
  up(now) {
    this.s.detach(now);
    this.link++;
    this.isUp = true;
    this.openAt = this.since = now;
    return this.link;
  }

  /** A link broke. @param {number} link @param {number} now */
  down(link, now) {
    if (link !== this.link || !this.isUp) return;
    this.isUp = false;
    this.s.detach(now);
  }

  /** Takes a message for the router.
   * @param {Message} m its kind must be the first member */
  send(m) { this.s.send(JSON.stringify(m)); }

  /** Takes what came from a link, and returns a message or null.
   * @param {number} link @param {string} text @param {number} now @returns {Message | null} */
  receive(link, text, now) {
    if (link !== this.link || !this.isUp || this.closed) return null;
    const f = parse(text);
    if (!f) {
      this.code = garbled;
      return null;
    }
    if (f.closed) {
      this.code = f.closed.code;
      return null;
    }
    if (f.opened && this.openAt) {
      this.opened(f, f.opened, now);
      return null;
    }
    if (this.openAt) return null; // before opened
    if (f.drop) {
      this.down(link, now);
      return null;
    }
    const body = this.s.receive(f, now);
    if (body === undefined) return null;
    if (!kinds.has(body.kind)) {
      this.code = garbled;
      return null;
    }
    return body;
  }

  /** @param {Frame} f @param {Opened} opened @param {number} now */
  opened(f, opened, now) {
    this.meeting = opened.meeting;
    this.session = opened.session;
    if (this.ticket) {
      this.ticket = "";
    } else {
      this.secret = this.next_;
      this.next_ = this.newSecret();
    }
    this.openAt = 0;
    this.fresh = false;
    this.s.attach(f.ack || 0, now);
  }

  /** What is written to the current link now. When it has noticed that the link is
   * silent, wants tells.
   * @param {number} now @returns {string[]} */
  poll(now) {
    if (!this.isUp || this.closed) {
      this.s.poll(now);
      return [];
    }
    if (!this.openAt) {
      const out = this.s.poll(now);
      if (!this.s.linked) this.isUp = false;
      return out;
    }
    this.s.poll(now);
    if (now >= this.since + silence) {
      this.isUp = false;
      return [];
    }
    if (now < this.openAt) return [];
    this.openAt = now + openRetry;
    const open = this.ticket ? { link: this.link, ticket: this.ticket, secret: this.secret } :
      { link: this.link, meeting: this.meeting, session: this.session, secret: this.secret, next: this.next_, ...(this.fresh ? { fresh: true } : {}) };
    return [format({ ack: this.s.got, open })];
  }

  /** When poll has something to do by itself; 0: never. */
  next() {
    const next = this.s.next();
    return this.isUp && this.openAt && (!next || this.openAt < next) ? this.openAt : next;
  }
}

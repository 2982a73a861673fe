// Sound and pictures: one RTCPeerConnection to the router. The page offers, the
// router answers (RFC 9429).
//
//     sendonly   microphone; camera, in three sizes; the screen and its sound once it was shared
//     recvonly   three voices, which the router fills; as many pictures as are shown
//
// A picture's line ("slot") stays and shows one person after the other: what the
// page wants to see goes out as view, and slots says what really plays.

const voices = 3; // that are heard at once, as at the router
const grow = 4; // slots that are added at a time
const maxPictures = 49;
const settle = 150; // milliseconds: changes of the view are gathered
const patience = 12000; // milliseconds until an attempt to connect has failed
const restarts = 2; // of ICE, then the session begins anew

/** The camera's layers, as bits a second at most. */
const layers = [
  { rid: "l", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "m", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];

/** The screen's: who has a slow network reads half the size. */
const screenLayers = [
  { rid: "l", scaleResolutionDownBy: 2, maxBitrate: 600_000 },
  { rid: "h", scaleResolutionDownBy: 1, maxBitrate: 2_500_000 },
];

/**
 * @typedef {"microphone" | "camera" | "screen" | "screenaudio"} Source
 *
 * @typedef {object} Want a picture that the page shows
 * @property {number} id whose
 * @property {"camera" | "screen"} source
 * @property {number} width pixels of the screen
 * @property {number} height
 *
 * @typedef {object} Handlers
 * @property {(m: import("./session.js").Message) => void} send
 * @property {() => void} slots other pictures play
 * @property {(track: MediaStreamTrack) => void} voice a line of sound is there
 * @property {(state: "connecting" | "connected" | "broken") => void} state
 * @property {() => void} failed nothing helped: the session must begin anew
 */

/** Puts the codecs that the router knows first and leaves the others out: with all
 * that a browser has, an offer would be ten times as long.
 * @param {RTCRtpTransceiver} t @param {"audio" | "video"} kind @param {boolean} sends */
function prefer(t, kind, sends) {
  const all = (sends ? RTCRtpSender : RTCRtpReceiver).getCapabilities(kind)?.codecs || [];
  /** @param {RTCRtpCodec} c */
  const wanted = (c) => {
    const type = c.mimeType.toLowerCase(), f = c.sdpFmtpLine || "";
    switch (type) {
      case "audio/red": case "audio/opus": case "video/vp8": case "video/rtx": return true;
      case "video/vp9": return !sends && /profile-id=0/.test(f);
      case "video/h264": return !sends && /packetization-mode=1/.test(f) && /profile-level-id=(42e0|42001f|640)/i.test(f);
      case "video/av1": return !sends && !/profile=[12]/.test(f);
    }
    return false;
  };
  const some = all.filter(wanted);
  if (!some.length || !t.setCodecPreferences) return;
  try { t.setCodecPreferences(some); } catch { /* then with all of them */ }
}

export class Media {
  /** @param {RTCIceServer | undefined} relay @param {Handlers} on */
  constructor(relay, on) {
    this.on = on;
    /** @type {RTCPeerConnection} */
    this.pc = new RTCPeerConnection({ iceServers: relay ? [relay] : [], bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
    /** @type {Map<Source, RTCRtpTransceiver>} */
    this.out = new Map();
    /** @type {RTCRtpTransceiver[]} */
    this.pictures = [];
    /** @type {RTCRtpTransceiver[]} */
    this.voices = [];
    /** What plays, by mid: the router's word.
     * @type {Map<string, {id: number, source: string}>} */
    this.plays = new Map();
    /** @type {Want[]} */
    this.wants = [];
    /** Which slot is meant for which picture: "ID SOURCE" → mid.
     * @type {Map<string, string>} */
    this.assigned = new Map();
    this.ref = 0;
    this.asked = 0; // ref of the offer that waits for its answer
    this.dirty = false; // another offer is wanted
    this.restart = false; // with new ICE credentials
    this.tries = 0;
    this.ended = false;
    /** @type {Map<Source, string[]>} */
    this.watched = new Map();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.viewTimer = undefined;
    this.viewed = "";

    this.line("microphone", null);
    this.line("camera", null);
    for (let i = 0; i < voices; i++) {
      const t = this.pc.addTransceiver("audio", { direction: "recvonly" });
      prefer(t, "audio", false);
      this.voices.push(t);
      this.on.voice(t.receiver.track);
    }
    this.addPictures(grow);
    this.pc.onconnectionstatechange = () => this.changed();
    // Candidates stay here: the router is ICE-lite and learns where we are from our
    // checks, so nobody needs to be told this machine's addresses.
    this.again = () => this.recover(1000);
    addEventListener("online", this.again);
    this.connection = /** @type {any} */ (navigator).connection;
    this.connection?.addEventListener?.("change", this.again);
    this.wait(patience);
    void this.negotiate();
  }

  /** @param {Source} source @param {MediaStreamTrack | null} track */
  line(source, track) {
    const kind = source === "camera" || source === "screen" ? "video" : "audio";
    /** @type {RTCRtpTransceiverInit} */
    const init = { direction: "sendonly" };
    if (source === "camera") init.sendEncodings = layers.map((l) => ({ ...l }));
    if (source === "screen") init.sendEncodings = screenLayers.map((l) => ({ ...l }));
    /** @type {RTCRtpTransceiver} */
    const t = this.pc.addTransceiver(track || kind, init);
    prefer(t, kind, true);
    this.out.set(source, t);
    return t;
  }

  /** @param {number} n */
  addPictures(n) {
    for (let i = 0; i < n && this.pictures.length < maxPictures; i++) {
      const t = this.pc.addTransceiver("video", { direction: "recvonly" });
      prefer(t, "video", false);
      this.pictures.push(t);
    }
  }

  /** Sends a track from now on, or nothing.
   * @param {Source} source @param {MediaStreamTrack | null} track */
  async put(source, track) {
    const t = this.out.get(source);
    if (t) {
      await t.sender.replaceTrack(track);
    } else if (track) {
      this.line(source, track);
      await this.negotiate();
    }
  }

  /** Offers, one offer after the other. */
  async negotiate() {
    if (this.asked || this.ended) {
      this.dirty = true;
      return;
    }
    this.dirty = false;
    const ref = (this.asked = ++this.ref);
    try {
      if (this.restart) this.pc.restartIce();
      this.restart = false;
      await this.pc.setLocalDescription();
    } catch (e) {
      this.give(e);
      return;
    }
    if (this.ended) return;
    /** @type {Record<string, Source>} */
    const sources = {};
    for (const [source, t] of this.out) if (t.mid !== null) sources[t.mid] = source;
    const slots = [...this.voices, ...this.pictures].map((t) => t.mid).filter((m) => m !== null);
    this.on.send({ kind: "offer", ref, sdp: this.pc.localDescription?.sdp || "", sources, slots });
  }

  /** @param {{ref?: number, sdp: string}} a */
  async answer(a) {
    if (a.ref !== this.asked || this.ended) return;
    try {
      await this.pc.setRemoteDescription({ type: "answer", sdp: a.sdp });
    } catch (e) {
      this.give(e);
      return;
    }
    this.asked = 0;
    for (const [source, rids] of this.watched) this.activate(source, rids);
    this.look();
    if (this.dirty) void this.negotiate();
  }

  /** An offer was refused. @param {number} ref */
  refused(ref) {
    if (ref === this.asked) this.give("the offer was refused");
  }

  /** Nothing more can be done with this connection. @param {unknown} why */
  give(why) {
    if (this.ended) return;
    console.warn("media:", why);
    this.end();
    this.on.failed();
  }

  /** What is watched of what we send: the other layers rest.
   * @param {Source} source @param {string[]} rids */
  watch(source, rids) {
    this.watched.set(source, rids);
    this.activate(source, rids);
  }

  /** @param {Source} source @param {string[]} rids */
  activate(source, rids) {
    const sender = this.out.get(source)?.sender;
    const p = sender?.getParameters();
    if (!sender || !p?.encodings?.length) return;
    let changed = false;
    for (const e of p.encodings) {
      const active = rids.includes(e.rid || "");
      changed ||= e.active !== active;
      e.active = active;
    }
    if (changed) sender.setParameters(p).catch(() => { /* it is negotiated just now: answer comes back to it */ });
  }

  /** Says what the page shows. @param {Want[]} wants */
  show(wants) {
    this.wants = wants.slice(0, maxPictures);
    clearTimeout(this.viewTimer);
    this.viewTimer = setTimeout(() => this.look(), settle);
  }

  look() {
    if (this.ended) return;
    const keys = new Map(this.wants.map((w) => [w.id + " " + w.source, w]));
    for (const k of this.assigned.keys()) if (!keys.has(k)) this.assigned.delete(k);
    const taken = new Set(this.assigned.values());
    const free = this.pictures.filter((t) => t.mid !== null && t.currentDirection !== null && !taken.has(t.mid)).map((t) => /** @type {string} */ (t.mid));
    let missing = 0;
    for (const k of keys.keys()) {
      if (this.assigned.has(k)) continue;
      // The slot that plays it already, if there is one.
      const at = Math.max(0, free.findIndex((mid) => this.key(mid) === k));
      const [mid] = free.splice(at, 1);
      if (mid === undefined) missing++;
      else this.assigned.set(k, mid);
    }
    const slots = [...this.assigned].map(([k, mid]) => {
      const w = /** @type {Want} */ (keys.get(k));
      return { mid, what: "one", id: w.id, source: w.source, width: Math.round(w.width), height: Math.round(w.height) };
    });
    const text = JSON.stringify(slots);
    if (text !== this.viewed) {
      this.viewed = text;
      this.on.send({ kind: "view", slots });
    }
    if (missing && !this.asked && this.pictures.length < maxPictures) {
      this.addPictures(Math.ceil(missing / grow) * grow);
      void this.negotiate();
    }
    this.on.slots();
  }

  /** @param {string} mid */
  key(mid) {
    const p = this.plays.get(mid);
    return p ? p.id + " " + p.source : "";
  }

  /** @param {{mid: string, id?: number, source?: string}[]} list */
  slots(list) {
    for (const s of list) {
      if (s.id && s.source) this.plays.set(s.mid, { id: s.id, source: s.source });
      else this.plays.delete(s.mid);
    }
    this.on.slots();
  }

  /** The picture of somebody that plays now, or null.
   * @param {number} id @param {string} source */
  picture(id, source) {
    for (const t of this.pictures) if (t.mid !== null && this.key(t.mid) === id + " " + source) return t.receiver.track;
    return null;
  }

  changed() {
    if (this.ended) return;
    switch (this.pc.connectionState) {
      case "connected":
        clearTimeout(this.timer);
        this.timer = undefined;
        this.tries = 0;
        this.on.state("connected");
        break;
      case "disconnected":
        this.on.state("broken");
        this.recover(2000); // it often comes back by itself
        break;
      case "failed":
        this.on.state("broken");
        this.recover(0);
        break;
    }
  }

  /** The router has other addresses: offers anew with new ICE credentials, not all
   * pages at once. Media goes on by the old way as long as there is one. */
  moved() {
    setTimeout(() => {
      if (this.ended) return;
      this.restart = true;
      void this.negotiate();
    }, 2000 * Math.random());
  }

  /** Connects anew after a while, unless it comes back. @param {number} after milliseconds */
  recover(after) {
    if (this.ended) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.ended) return;
      if (this.asked) { // the last offer is on its way: the link has trouble of its own
        this.recover(1000);
        return;
      }
      if (this.tries++ >= restarts) {
        this.give("it does not connect");
        return;
      }
      this.restart = true;
      void this.negotiate();
      this.wait(patience);
    }, after);
  }

  /** @param {number} ms */
  wait(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.pc.connectionState === "connected") return;
      this.on.state("broken");
      this.recover(0);
    }, ms);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    clearTimeout(this.viewTimer);
    removeEventListener("online", this.again);
    this.connection?.removeEventListener?.("change", this.again);
    this.pc.close();
  }
}

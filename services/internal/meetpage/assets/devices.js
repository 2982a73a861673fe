// Camera, microphone and loudspeaker of this machine.

import { choose, devices } from "./kept.js";

/** Why there is no picture or sound, for the words "js.media-WHY".
 * @param {unknown} e */
export function why(e) {
  switch (e instanceof DOMException ? e.name : "") {
    case "NotAllowedError": return "blocked";
    case "NotFoundError": case "OverconstrainedError": return "none";
    case "NotReadableError": case "AbortError": return "busy";
    default: return navigator.mediaDevices ? "failed" : "insecure";
  }
}

/** @param {string} [id] */
const exactly = (id) => (id ? { deviceId: { exact: id } } : {});

const sound = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const picture = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

/** Asks for a microphone, the one that was chosen if it is there. */
const microphone = () => one("microphone", (id) => ({ audio: { ...exactly(id), ...sound } }));

/** Asks for a camera. */
const camera = () => one("camera", (id) => ({ video: { ...exactly(id), ...picture } }));

/** @param {"microphone" | "camera"} kind @param {(id?: string) => MediaStreamConstraints} constraints @returns {Promise<MediaStreamTrack>} */
async function one(kind, constraints) {
  const id = devices()[kind];
  let s;
  try {
    s = await navigator.mediaDevices.getUserMedia(constraints(id));
  } catch (e) {
    if (!id || why(e) !== "none") throw e; // else the one that was chosen is not plugged in
    s = await navigator.mediaDevices.getUserMedia(constraints());
  }
  return s.getTracks()[0];
}

/** Asks for a screen or window, with its sound where the browser has that. */
export async function screen() {
  const s = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
  const [video] = s.getVideoTracks(), [audio] = s.getAudioTracks();
  video.contentHint = "detail"; // text stays sharp rather than smooth
  return { video, audio };
}

/** Fills the choices of a device; a choice of one is none, and is not shown.
 * @param {HTMLSelectElement} select @param {MediaDeviceKind} kind @param {string | undefined} current @param {(n: number) => string} name of one without a label */
export async function offer(select, kind, current, name) {
  const list = navigator.mediaDevices ? await navigator.mediaDevices.enumerateDevices() : [];
  const fits = list.filter((d) => d.kind === kind && d.deviceId);
  select.replaceChildren(...fits.map((d, i) => new Option(d.label || name(i + 1), d.deviceId, false, d.deviceId === current)));
  const box = select.closest(".input");
  if (box instanceof HTMLElement) box.hidden = fits.length === 0;
}

/** Shows how loud a track is, ten times a second, until it is stopped.
 * @param {MediaStreamTrack} track @param {(level: number) => void} show 0 to 1 @returns {() => void} stop */
export function level(track, show) {
  const context = new AudioContext();
  const wake = () => void context.resume();
  document.addEventListener("pointerdown", wake);
  document.addEventListener("keydown", wake);
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  const source = context.createMediaStreamSource(new MediaStream([track]));
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    let sum = 0;
    for (const v of samples) sum += v * v;
    const db = 10 * Math.log10(sum / samples.length + 1e-10);
    show(Math.max(0, Math.min(1, (db + 60) / 50))); // -60 to -10 dBFS
  }, 100);
  return () => {
    clearInterval(timer);
    document.removeEventListener("pointerdown", wake);
    document.removeEventListener("keydown", wake);
    void context.close();
  };
}

/** This person's microphone and camera: on, off, or not to be had. */
export class Local {
  /** @param {{microphone: boolean, camera: boolean}} on as wanted @param {() => void} changed */
  constructor(on, changed) {
    this.on = { ...on };
    this.changed = changed;
    /** @type {{microphone: MediaStreamTrack | null, camera: MediaStreamTrack | null}} */
    this.track = { microphone: null, camera: null };
    /** Why it is off though it was wanted.
     * @type {{microphone: string, camera: string}} */
    this.why = { microphone: "", camera: "" };
  }

  /** Asks for both at once, so that the browser asks once. */
  async begin() {
    const { microphone: m, camera: c } = this.on;
    if (m && c && !devices().microphone && !devices().camera && navigator.mediaDevices) {
      try {
        const s = await navigator.mediaDevices.getUserMedia({ audio: sound, video: picture });
        this.take("microphone", s.getAudioTracks()[0]);
        this.take("camera", s.getVideoTracks()[0]);
        this.changed();
        return;
      } catch { /* one of them may be there */ }
    }
    if (m) await this.set("microphone", true);
    if (c) await this.set("camera", true);
  }

  /** @param {"microphone" | "camera"} kind @param {MediaStreamTrack} track */
  take(kind, track) {
    this.track[kind]?.stop();
    this.track[kind] = track;
    this.on[kind] = true;
    this.why[kind] = "";
    track.onended = () => { // unplugged, or taken away in the browser
      if (this.track[kind] !== track) return;
      this.track[kind] = null;
      this.on[kind] = false;
      this.why[kind] = "none";
      this.changed();
    };
  }

  /** Turns one on or off; false: it could not be had. A camera that is off is let go,
   * so that its light goes out; a microphone stays at hand, silent.
   * @param {"microphone" | "camera"} kind @param {boolean} on */
  async set(kind, on) {
    this.why[kind] = "";
    const track = this.track[kind];
    if (!on) {
      this.on[kind] = false;
      if (track && kind === "camera") { track.stop(); this.track.camera = null; }
      if (track && kind === "microphone") track.enabled = false;
    } else if (track) {
      track.enabled = true;
      this.on[kind] = true;
    } else {
      try {
        this.take(kind, await (kind === "camera" ? camera() : microphone()));
      } catch (e) {
        this.on[kind] = false;
        this.why[kind] = why(e);
      }
    }
    this.changed();
    return this.on[kind] === on;
  }

  /** Changes to another device. @param {"microphone" | "camera"} kind @param {string} id */
  async pick(kind, id) {
    choose({ [kind]: id });
    const track = this.track[kind];
    if (!track) return;
    const on = this.on[kind];
    this.track[kind] = null;
    track.stop();
    await this.set(kind, true);
    if (!on) await this.set(kind, false);
  }

  end() {
    for (const t of Object.values(this.track)) t?.stop();
    this.track = { microphone: null, camera: null };
  }
}

// The page, from screen to screen:
//
//     ready ──▶ connecting ──▶ waiting ──▶ in the meeting ──▶ over
//                    ▲            (room)      │
//                    └────────────────────────┘ by a pass, when the session is lost
//
// A page that is loaded anew goes on where it was.

import { find } from "./chat.js";
import { pickers, showSwitch } from "./controls.js";
import { Local, level } from "./devices.js";
import { arrive, claims, keep, kept } from "./kept.js";
import { Meeting } from "./meet.js";
import { initials } from "./room.js";
import { fault, has, t } from "./words.js";

const main = find(document, "main", HTMLElement);
const said = find(document, "#said", HTMLElement);

/** Shows a screen and goes to its heading. @param {string} name */
function screen(name) {
  const template = find(document, "#screen-" + name, HTMLTemplateElement);
  main.replaceChildren(template.content.cloneNode(true));
  document.body.classList.toggle("inside", name === "room");
  main.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** @param {string} title */
const titled = (title) => { document.title = title + " · Parley"; };

/** Shows why one is not in the meeting, and how to come in again.
 * @param {string} title @param {string} text @param {string} [hint] @param {boolean} [again] */
function over(title, text, hint = "", again = true) {
  screen("over");
  titled(title);
  find(main, "[data-title]", HTMLElement).textContent = title;
  find(main, "[data-text]", HTMLElement).textContent = text;
  find(main, "[data-text]", HTMLElement).hidden = !text;
  const h = find(main, "[data-hint]", HTMLElement), link = find(main, "[data-again]", HTMLAnchorElement), retry = find(main, "[data-retry]", HTMLButtonElement);
  h.textContent = hint;
  h.hidden = !hint;
  const portal = document.body.dataset.portal;
  if (again && portal && kept.number) {
    link.href = new URL("/j/" + kept.number, portal).href;
    link.hidden = false;
  } else if (again && kept.trial) {
    retry.hidden = false;
    retry.addEventListener("click", () => ready(local));
  }
  said.textContent = title + ". " + text;
}

/** @type {Local | undefined} */
let local;

/** The codes after which one has not been inside. */
const refusals = new Set(["meet-locked", "meet-full", "meet-crowded", "meet-denied", "meet-no-host", "meet-elsewhere", "meet-used", "meet-ticket"]);

/** @param {string} code @param {boolean} inside */
function ended(code, inside) {
  local?.end();
  local = undefined;
  keep({ session: undefined, pass: undefined, ticket: undefined });
  const title = code === "meet-left" ? "js.over-left" : code === "meet-ended" ? "js.over-ended" : refusals.has(code) && !inside ? "js.over-failed" : "js.over-lost";
  const hint = has("js.hint-" + code) ? t("js.hint-" + code) : "";
  const text = code === "meet-left" ? "" : has("fault." + code) ? fault(code) : code;
  over(t(title), text, hint, code !== "meet-removed");
}

/** @param {Local} mine */
async function meet(mine) {
  screen("wait");
  titled(t("js.connecting"));
  find(main, "[data-title]", HTMLElement).textContent = t("js.connecting");
  find(main, "[data-topic]", HTMLElement).textContent = kept.topic || "";
  find(main, "[data-text]", HTMLElement).textContent = t("js.connecting-text");
  find(main, ".hint", HTMLElement).hidden = true;
  const meeting = new Meeting(mine, {
    waiting(code) {
      if (document.body.classList.contains("inside") || !main.querySelector(".waiting")) screen("wait");
      titled(t("js.waiting"));
      find(main, "[data-title]", HTMLElement).textContent = t("js.waiting");
      find(main, "[data-topic]", HTMLElement).textContent = kept.topic || "";
      find(main, "[data-text]", HTMLElement).textContent = fault(code);
      find(main, ".hint", HTMLElement).hidden = false;
      find(main, "[data-leave]", HTMLElement).onclick = () => meeting.leave();
    },
    slow(slow) {
      const hint = main.querySelector("[data-slow]");
      if (!(hint instanceof HTMLElement) || hint.hidden !== slow) return;
      hint.textContent = slow ? t("js.link-lost-long") : "";
      hint.hidden = !slow;
    },
    inside(topic) {
      screen("room");
      titled(topic || t("js.meeting"));
      return find(main, ".room", HTMLElement);
    },
    over: ended,
  });
  find(main, "[data-leave]", HTMLElement).onclick = () => meeting.leave();
  meeting.begin();
}

/** Asks for a trial meeting's ticket. @param {string} name @returns {Promise<string>} the ticket */
async function trial(name) {
  const r = await fetch("/trial", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code: kept.trial, name }), redirect: "error" });
  if (r.ok) return (await r.json()).ticket;
  let message = t("js.trial-failed");
  try {
    const p = (await r.json()).error;
    message = [...new Set([p.message, ...(p.fields || []).map((/** @type {{message: string}} */ f) => f.message)])].filter(Boolean).join(" ");
  } catch { /* not ours */ }
  throw new Error(message);
}

/** The picture and sound are tried before others get them.
 * @param {Local} [given] */
function ready(given) {
  screen("ready");
  titled(kept.topic || t("js.meeting"));
  const form = find(main, "form", HTMLFormElement), video = find(form, "video", HTMLVideoElement);
  const name = find(form, "#name", HTMLInputElement), nameError = find(form, "#name-error", HTMLElement), error = find(form, "[data-error]", HTMLElement);
  const bars = [...form.querySelectorAll("[data-meter] i")];
  find(form, "[data-title]", HTMLElement).textContent = kept.topic || t("js.meeting");
  const asks = !kept.ticket;
  find(form, "[data-name]", HTMLElement).hidden = !asks;
  name.value = kept.name || "";
  const as = find(form, "[data-as]", HTMLElement);
  if (!asks && kept.name) { as.textContent = t("js.as", kept.name); as.hidden = false; }
  /** @type {MediaStreamTrack | null} */
  let metered = null;
  /** @type {() => void} */
  let stop = () => {};
  const draw = () => {
    if (!form.isConnected) return;
    const { camera, microphone } = mine.track;
    const now = video.srcObject instanceof MediaStream ? video.srcObject.getVideoTracks()[0] : null;
    if (camera !== now) {
      video.srcObject = camera ? new MediaStream([camera]) : null;
      if (camera) video.play().catch(() => { /* another one comes */ });
    }
    video.hidden = !camera;
    const avatar = find(form, ".avatar", HTMLElement);
    avatar.textContent = initials(kept.name || name.value || "");
    avatar.hidden = !avatar.textContent || !!mine.why.camera;
    for (const kind of /** @type {const} */ (["camera", "microphone"])) {
      showSwitch(form, kind, mine.on[kind]);
      const w = find(form, `[data-${kind}-why]`, HTMLElement);
      w.textContent = mine.why[kind] ? t(`js.media-${mine.why[kind]}-${kind}`) : kind === "camera" && !camera ? t("js.camera-is-off") : "";
      w.hidden = !w.textContent;
    }
    const heard = mine.on.microphone ? microphone : null;
    if (heard !== metered) {
      stop();
      metered = heard;
      stop = heard ? level(heard, (v) => bars.forEach((b, i) => b.classList.toggle("on", v * bars.length > i))) : () => bars.forEach((b) => b.classList.remove("on"));
      if (!heard) stop();
    }
    void pickers(form, mine);
  };
  const mine = given || new Local({ microphone: kept.microphone ?? true, camera: kept.camera ?? true }, draw);
  local = mine;
  mine.changed = draw;
  const plugged = () => { if (form.isConnected) void pickers(form, mine); else navigator.mediaDevices.removeEventListener("devicechange", plugged); };
  navigator.mediaDevices?.addEventListener("devicechange", plugged);
  for (const kind of /** @type {const} */ (["camera", "microphone"]))
    find(form, `[data-do="${kind}"]`, HTMLElement).addEventListener("click", () => mine.set(kind, !mine.on[kind]));
  name.addEventListener("input", () => { nameError.hidden = true; name.removeAttribute("aria-invalid"); });
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    error.hidden = true;
    const join = find(form, "[data-join]", HTMLButtonElement);
    if (join.disabled) return;
    if (asks) {
      if (!name.value.trim()) {
        nameError.textContent = t("js.name-missing");
        nameError.hidden = false;
        name.setAttribute("aria-invalid", "true");
        name.focus();
        return;
      }
      join.disabled = true;
      try {
        const ticket = await trial(name.value.trim());
        const c = claims(ticket);
        keep({ ticket, name: name.value.trim(), topic: c.topic, number: c.number });
      } catch (err) {
        error.textContent = err instanceof Error && !(err instanceof TypeError) ? err.message : t("js.trial-failed");
        error.hidden = false;
        join.disabled = false;
        return;
      }
    }
    stop();
    void meet(mine);
  });
  draw();
  if (!given) void mine.begin();
}

addEventListener("hashchange", () => location.reload());
arrive();
if (typeof RTCPeerConnection === "undefined") {
  over(t("js.over-failed"), t("js.no-webrtc"), "", false);
} else if (kept.session) {
  const mine = new Local({ microphone: kept.microphone ?? false, camera: kept.camera ?? false }, () => {});
  local = mine;
  void meet(mine);
  void mine.begin();
} else if (kept.ticket || kept.trial) {
  ready();
} else {
  over(t("js.over-none"), t("js.over-none-text"), "", false);
}

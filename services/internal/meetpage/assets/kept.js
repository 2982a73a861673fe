// What the page was opened with, and what it keeps over a reload: in this tab's
// storage alone, so that another tab is another visit.
//
// A ticket comes in the fragment, which no server sees: "#t=TICKET&c=ORIGIN,…" as
// the portal sends people, or "#ticket=TICKET"; "#trial=CODE" asks for one. It is
// taken out of the address at once, so that nobody copies it with the address.

/**
 * @typedef {object} Kept
 * @property {string} [ticket] not used yet
 * @property {string} [trial] the code of a trial meeting's link
 * @property {import("./session.js").Saved} [session]
 * @property {string} [pass] the last ticket for coming back
 * @property {boolean} [microphone] on when the page was left
 * @property {boolean} [camera]
 * @property {string} [name] as it was typed
 * @property {string} [number] of the meeting
 * @property {string} [topic]
 */

const key = "meeting";

/** @returns {Kept} */
function read() {
  try { return JSON.parse(sessionStorage.getItem(key) || "{}"); } catch { return {}; }
}

/** What is kept; change it with keep.
 * @type {Readonly<Kept>} */
export let kept = read();

/** Changes what is kept; undefined takes a value away.
 * @param {Kept} change */
export function keep(change) {
  kept = { ...kept, ...change };
  sessionStorage.setItem(key, JSON.stringify(kept));
}

/** Takes what the address brought. A new ticket is a new visit. */
export function arrive() {
  const p = new URLSearchParams(location.hash.slice(1));
  if (location.hash) history.replaceState(null, "", location.pathname);
  const ticket = p.get("t") || p.get("ticket") || undefined, trial = p.get("trial") || undefined;
  if (!ticket && !trial) return;
  kept = {};
  keep({ ticket, trial });
  const c = claims(ticket || "");
  keep({ number: c.number, topic: c.topic, name: c.name });
}

/** What a ticket says of itself. Only the router can tell whether it is true; it is
 * good enough to show.
 * @param {string} ticket @returns {{name?: string, topic?: string, number?: string, id?: string, test?: boolean, expires: number}} */
export function claims(ticket) {
  try {
    const b = Uint8Array.from(atob(ticket.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const c = JSON.parse(new TextDecoder().decode(b));
    /** @param {any} v */
    const text = (v) => (typeof v === "string" ? v.slice(0, 200) : undefined);
    const number = text(c.meeting?.number);
    return {
      name: text(c.name), topic: text(c.meeting?.topic), id: text(c.meeting?.id), test: c.meeting?.test === true,
      number: number && /^\d{9,11}$/.test(number) ? number : undefined, expires: Number(c.exp) * 1000 || 0,
    };
  } catch {
    return { expires: 0 };
  }
}

/** What people chose once holds for the next meetings too.
 * @typedef {{microphone?: string, camera?: string, speaker?: string}} Devices */

/** @returns {Devices} */
export function devices() {
  try { return JSON.parse(localStorage.getItem("devices") || "{}"); } catch { return {}; }
}

/** @param {Devices} change */
export function choose(change) {
  localStorage.setItem("devices", JSON.stringify({ ...devices(), ...change }));
}

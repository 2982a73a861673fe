// Controls that stand before the meeting and in it.

import { find } from "./chat.js";
import { offer } from "./devices.js";
import { choose, devices } from "./kept.js";
import { t } from "./words.js";

/** Shows the devices to choose from, in a form. @param {ParentNode} root @param {import("./devices.js").Local} mine */
export async function pickers(root, mine) {
  const box = find(root, "[data-devices]", HTMLElement);
  if (!box.firstElementChild) {
    box.append(find(document, "#part-devices", HTMLTemplateElement).content.cloneNode(true));
    for (const s of box.querySelectorAll("select"))
      s.addEventListener("change", () => {
        const kind = s.dataset.pick;
        if (kind === "camera" || kind === "microphone") void mine.pick(kind, s.value);
        else { choose({ speaker: s.value }); document.dispatchEvent(new Event("speaker")); }
      });
  }
  /** @param {string} pick */
  const select = (pick) => find(box, `[data-pick="${pick}"]`, HTMLSelectElement);
  /** @param {number} n */
  const name = (n) => t("js.device", n);
  await offer(select("camera"), "videoinput", mine.track.camera?.getSettings().deviceId || devices().camera, name);
  await offer(select("microphone"), "audioinput", mine.track.microphone?.getSettings().deviceId || devices().microphone, name);
  if ("setSinkId" in HTMLMediaElement.prototype) await offer(select("speaker"), "audiooutput", devices().speaker || "default", name);
  else select("speaker").closest(".input")?.remove();
}

/** Names a control by what it shows and what it does next.
 * @param {HTMLElement} b @param {string} key of "SHOWN: what" @param {string} title */
export function called(b, key, title) {
  b.setAttribute("aria-label", t(key, find(b, "span", HTMLElement).textContent || ""));
  b.title = title;
}

/** Shows a switch as it is.
 * @param {ParentNode} root @param {"microphone" | "camera"} kind @param {boolean} on */
export function showSwitch(root, kind, on) {
  const b = find(root, `[data-do="${kind}"]`, HTMLElement);
  b.toggleAttribute("data-off", !on);
  called(b, on ? "js.do-off" : "js.do-on", kind === "camera" ? t(on ? "js.camera-off" : "js.camera-on") : t(on ? "js.mute" : "js.unmute"));
  find(b, "use", SVGElement).setAttribute("href", "#i-" + kind + (on ? "" : "-off"));
}

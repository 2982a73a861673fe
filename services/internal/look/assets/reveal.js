"use strict";
// A generated password is typed from another screen: let it be seen.
for (const box of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("[data-reveal]"))) {
  const fields = (box.dataset.reveal || "").split(" ").map((id) => /** @type {HTMLInputElement} */ (document.getElementById(id)));
  const set = () => { for (const f of fields) f.type = box.checked ? "text" : "password"; };
  box.checked = false;
  const line = box.closest("p");
  if (line) line.hidden = false;
  box.addEventListener("change", set);
  // A browser must not keep it among what was typed into text fields.
  fields[0].form?.addEventListener("submit", () => { box.checked = false; set(); });
}

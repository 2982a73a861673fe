"use strict";
// A generated password is typed from another screen: let it be seen.
for (const e of document.querySelectorAll("[data-reveal]")) {
  const box = /** @type {HTMLInputElement} */ (e);
  const field = /** @type {HTMLInputElement | null} */ (document.getElementById(box.dataset.reveal || ""));
  const row = box.closest("p");
  if (!field || !field.form || !row) continue;
  box.checked = false;
  row.hidden = false;
  box.addEventListener("change", () => { field.type = box.checked ? "text" : "password"; });
  // A browser must not keep it among what was typed into text fields.
  field.form.addEventListener("submit", () => { field.type = "password"; });
}

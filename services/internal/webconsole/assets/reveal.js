"use strict";
// A generated password is typed from another screen: let it be seen.
for (const e of document.querySelectorAll("[data-reveal]")) {
  const box = /** @type {HTMLInputElement} */ (e);
  const field = /** @type {HTMLInputElement} */ (document.getElementById(box.dataset.reveal));
  box.checked = false;
  box.closest("p").hidden = false;
  box.addEventListener("change", () => { field.type = box.checked ? "text" : "password"; });
  // A browser must not keep it among what was typed into text fields.
  field.form.addEventListener("submit", () => { field.type = "password"; });
}

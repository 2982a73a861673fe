// The texts of the page's language: the server puts those that scripts need into
// the page.

/** @type {Record<string, string>} */
const texts = JSON.parse(document.getElementById("words")?.textContent || "{}");

/** The text of a key, with its %s and %d filled in their order.
 * @param {string} key @param {...(string | number)} args */
export function t(key, ...args) {
  let i = 0;
  return (texts[key] ?? key).replace(/%[sd]/g, () => String(args[i++] ?? ""));
}

/** Whether there is such a text. @param {string} key */
export const has = (key) => key in texts;

/** The text of a router's code. @param {string} code @param {any[]} [args] */
export const fault = (code, args = []) => t("fault." + code, ...args);

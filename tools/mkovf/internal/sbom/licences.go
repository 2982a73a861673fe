package sbom

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Source is something whose licence texts are collected: a module's folder, the Go distribution, the kernel.
type Source struct {
	Name    string
	Version string
	Files   fs.FS
	// Top looks only into the top folder. Modules carry code of others in subfolders, with its own licence; the Go
	// distribution has test data there.
	Top bool
}

// reLicence matches names of files that hold licences, notices or grants; the
// GNU ones also by the names that REUSE gives them.
var reLicence = regexp.MustCompile(`(?i)^((un)?(licen[cs]es?|copying|copyright|notice|patents)([._-].*)?|[al]?gpl-\d\.\d\.txt)$`)

// reCode matches names that reLicence takes for licences though they are programs.
var reCode = regexp.MustCompile(`(?i)\.(go|s|c|h|sh|py|js|json|ya?ml|html?|css|xsd|xml)$`)

const maxLicence = 1 << 20 // bytes; the longest known is under 100 KB

type text struct {
	usedBy []string
	body   []byte
}

// Collect puts the licence texts of all sources into one text. A text that several sources share stands there once,
// under the names of all. A source without any licence is an error: it could not be shipped.
func Collect(title string, sources []Source) ([]byte, error) {
	var texts []*text
	byHash := map[[32]byte]*text{}
	for _, s := range sources {
		files, err := licenceFiles(s)
		if err != nil {
			return nil, fmt.Errorf("licences of %s: %w", s.Name, err)
		}
		for _, name := range files {
			body, err := readText(s.Files, name)
			if err != nil {
				return nil, fmt.Errorf("licences of %s: %w", s.Name, err)
			}
			h := sha256.Sum256(body)
			if byHash[h] == nil {
				byHash[h] = &text{body: body}
				texts = append(texts, byHash[h])
			}
			byHash[h].usedBy = append(byHash[h].usedBy, strings.TrimSpace(s.Name+" "+s.Version)+": "+name)
		}
	}
	var b bytes.Buffer
	b.WriteString(title + "\n")
	for _, t := range texts {
		b.WriteString("\n" + strings.Repeat("=", 80) + "\n")
		for _, u := range t.usedBy {
			b.WriteString(u + "\n")
		}
		b.WriteString(strings.Repeat("-", 80) + "\n\n")
		b.Write(t.body)
	}
	return b.Bytes(), nil
}

// licenceFiles lists the licence files of s, sorted.
func licenceFiles(s Source) ([]string, error) {
	var out []string
	err := fs.WalkDir(s.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			// Test data is not shipped, and licences in it may be test cases.
			if name != "." && (s.Top || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && reLicence.MatchString(d.Name()) && !reCode.MatchString(d.Name()) {
			out = append(out, name)
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("no file like LICENSE, COPYING or NOTICE")
	}
	slices.Sort(out)
	return out, err
}

// readText reads a licence with line ends made uniform, so that copies compare equal.
func readText(files fs.FS, name string) ([]byte, error) {
	st, err := fs.Stat(files, name)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxLicence {
		return nil, fmt.Errorf("%s has %d bytes, want at most %d", name, st.Size(), maxLicence)
	}
	b, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s is not text", name)
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return append(bytes.TrimRight(b, " \t\n"), '\n'), nil
}

// Identify names the licences of s as an SPDX expression from the licence files of its top folder, or "" when one of
// them is none it knows. It knows the licences that Go modules usually have and no GPL, for which the text alone does
// not tell "only" from "or later".
func Identify(s Source) (string, error) {
	s.Top = true
	files, err := licenceFiles(s)
	if err != nil {
		return "", fmt.Errorf("licences of %s: %w", s.Name, err)
	}
	var found []string
	for _, name := range files {
		body, err := readText(s.Files, name)
		if err != nil {
			return "", fmt.Errorf("licences of %s: %w", s.Name, err)
		}
		ids := identify(string(body))
		base := strings.ToLower(path.Base(name))
		if len(ids) == 0 && (strings.HasPrefix(base, "notice") || strings.HasPrefix(base, "patents") || strings.HasPrefix(base, "copyright")) {
			continue // attributions and grants, not licences
		}
		if len(ids) == 0 {
			return "", nil
		}
		found = append(found, ids...)
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), " AND "), nil
}

// phrases identify a licence when all of yes and none of no occur in its text (lower case, single blanks).
var phrases = []struct {
	id      string
	yes, no []string
}{
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy"}, nil},
	{"ISC", []string{"permission to use, copy, modify, and", "distribute this software for any purpose with or without fee is hereby granted, provided that the above"}, nil},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "endorse or promote products derived from"}, nil},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}, []string{"endorse or promote products derived from"}},
	{"Apache-2.0", []string{"apache license", "version 2.0"}, nil},
	{"MPL-2.0", []string{"mozilla public license", "version 2.0"}, nil},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}, nil},
	{"CC0-1.0", []string{"cc0 1.0 universal"}, nil},
}

var reBlanks = regexp.MustCompile(`\s+`)

func identify(text string) []string {
	text = reBlanks.ReplaceAllString(strings.ToLower(text), " ")
	if strings.Contains(text, "gnu general public license") && !strings.Contains(text, "mozilla public license") {
		return nil
	}
	var ids []string
	for _, p := range phrases {
		has := func(s string) bool { return strings.Contains(text, s) }
		if !slices.ContainsFunc(p.yes, func(s string) bool { return !has(s) }) && !slices.ContainsFunc(p.no, has) {
			ids = append(ids, p.id)
		}
	}
	return ids
}

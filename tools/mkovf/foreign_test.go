package main

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image"
	"github.com/parley-meet/parley/internal/judge"
)

// TestSourceOffer follows the offer of the delivered appliance: each file that
// it names is in the module that it names, and the kernel is the one whose
// source it names.
func TestSourceOffer(t *testing.T) {
	d := deliver(t)
	text, err := os.ReadFile(d.path(sourcesName))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	module := regexp.MustCompile(`Go module (\S+)@(v\S+)`)
	file := regexp.MustCompile(`^  (\S+) +\S`)
	dir, named := "", map[string]int{}
	for line := range strings.Lines(string(text)) {
		if m := module.FindStringSubmatch(line); m != nil {
			var download struct{ Dir, Version string }
			if err := json.Unmarshal([]byte(judge.Run(t, "go", "mod", "download", "-json", m[1])), &download); err != nil {
				t.Fatal(err)
			}
			if download.Version != m[2] {
				t.Errorf("%s: version %s, offered is %s", m[1], download.Version, m[2])
			}
			dir = download.Dir
		}
		if m := file.FindStringSubmatch(line); m != nil {
			named[m[1]]++
			if !holds(dir, m[1]) {
				t.Errorf("%s has no %s, or an empty one", dir, m[1])
			}
		}
	}
	for _, want := range []string{"_build/series", "_build/config.addendum.txt", "mbr/bootloader.asm", "mbr/Makefile"} {
		if named[want] != 1 {
			t.Errorf("%s is named %d times", want, named[want])
		}
	}
	// The kernel says in plain text what it is.
	m := regexp.MustCompile(`([0-9]+\.[0-9.]+) \(\w+@\w+\)`).FindSubmatch(kernelOf(t))
	if m == nil || !strings.Contains(string(text), "/linux-"+string(m[1])+".tar.xz\n") {
		t.Errorf("the kernel is %q", m)
	}
	for _, want := range []string{"LGPL-2.1-or-later", "https://snapshot.debian.org/package/systemd/", "three years"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// kernelOf is the default kernel's file.
func kernelOf(t *testing.T) []byte {
	t.Helper()
	dir := strings.TrimSpace(judge.Run(t, "go", "list", "-f", "{{.Dir}}", "github.com/gokrazy/kernel.amd64"))
	data, err := os.ReadFile(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bzImage is the head of a kernel that calls itself version.
func bzImage(version string) []byte {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], version)
	return b
}

func TestKernelRelease(t *testing.T) {
	for version, want := range map[string]string{"7.1.2 (gokrazy@docker) #1": "7.1.2", "7.1.0\x00": "7.1.0", "7.2-rc1 x": "7.2-rc1"} {
		if got, err := kernelRelease(bzImage(version)); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", version, got, err, want)
		}
	}
	far := bzImage("7.1")
	binary.LittleEndian.PutUint16(far[0x20e:], 0x200)
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte(strings.Repeat("x", 0x400)), "no version": bzImage(""), "space": bzImage(" 7"),
		"outside": far, "endless": bzImage(strings.Repeat("7", 0x100)), "cut": bzImage("7")[:0x20f],
	} {
		if got, err := kernelRelease(b); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	for release, want := range map[string]string{
		"7.1.2": "https://cdn.kernel.org/pub/linux/kernel/v7.x/linux-7.1.2.tar.xz",
		"7.1.0": "https://cdn.kernel.org/pub/linux/kernel/v7.x/linux-7.1.tar.xz",
		"7.10":  "https://cdn.kernel.org/pub/linux/kernel/v7.x/linux-7.10.tar.xz",
		"own":   "https://git.kernel.org/",
	} {
		if got := kernelSource(release); got != want {
			t.Errorf("%s: %s, want %s", release, got, want)
		}
	}
}

// A loader is described by what it says of itself; one that says nothing is
// refused, because its licence would be a guess.
func TestUEFIParts(t *testing.T) {
	texts := os.DirFS(filepath.Join(repo, "LICENSES"))
	for version, want := range map[string][]string{
		"252.39-1~deb12u2": {"systemd-boot 252.39-1~deb12u2 debian/systemd-boot-efi", "gnu-efi"},
		"257.7-1~deb13u1":  {"systemd-boot 257.7-1~deb13u1 debian/systemd-boot-efi"},
		"258.1":            {"systemd-boot 258.1 github/systemd"},
	} {
		parts, err := uefiParts(image.Part{Data: []byte("MZ...#### LoaderInfo: systemd-boot " + version + " ####\n")}, texts)
		if err != nil || len(parts) != len(want) {
			t.Errorf("%s: %+v, %v", version, parts, err)
			continue
		}
		for i, p := range parts {
			all := p.Name + " " + p.Version + " " + p.PURL
			for word := range strings.FieldsSeq(want[i]) {
				if !strings.Contains(all, word) {
					t.Errorf("%s: %q lacks %q", version, all, word)
				}
			}
		}
	}
	if _, err := uefiParts(image.Part{Data: []byte("MZ grub")}, texts); err == nil {
		t.Error("an unknown loader passed")
	}
}

func TestModuleZip(t *testing.T) {
	if got, want := moduleZip("github.com/Foo/bar", "v1.0.0-RC1"), "https://proxy.golang.org/github.com/!foo/bar/@v/v1.0.0-!r!c1.zip"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	v, made, err := Load(path, true)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st.Mode(), err)
	}
	value := []byte("a key")
	s := v.Seal("zone key", "z1", value)
	if bytes.Contains(s, value) || bytes.Equal(s, v.Seal("zone key", "z1", value)) {
		t.Error("not sealed")
	}
	again, made, err := Load(path, true)
	if err != nil || made {
		t.Fatal(made, err)
	}
	if got, err := again.Open("zone key", "z1", s); err != nil || !bytes.Equal(got, value) {
		t.Errorf("%q %v", got, err)
	}
	other, err := New(make([]byte, keySize))
	if err != nil {
		t.Fatal(err)
	}
	open := func(v *Vault, purpose, row string, s []byte) {
		t.Helper()
		if got, err := v.Open(purpose, row, s); !errors.Is(err, ErrSealed) {
			t.Errorf("%q %v, want ErrSealed", got, err)
		}
	}
	open(other, "zone key", "z1", s)
	open(v, "ticket key", "z1", s)
	open(v, "zone key", "z2", s)
	open(v, "zone key\" \"z1", "", s)
	for i := range s {
		c := bytes.Clone(s)
		c[i] ^= 1
		open(v, "zone key", "z1", c)
		open(v, "zone key", "z1", s[:i])
	}
	if bytes.Equal(v.Derive("a"), v.Derive("b")) || !bytes.Equal(v.Derive("a"), again.Derive("a")) {
		t.Error("derived keys")
	}
}

func TestLoadBad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, _, err := Load(path, false); err == nil {
		t.Error("no file is no key")
	}
	for _, s := range []string{"", "00", "zz", "00000000000000000000000000000000000000000000000000000000000000000000"} {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(path, true); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

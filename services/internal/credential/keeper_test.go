package credential

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/durable"
)

func newKeeper(t *testing.T) *Keeper {
	t.Helper()
	return &Keeper{Store: newStore(t), Dir: t.TempDir(), Hasher: NewHasher(4), Random: rand.Reader}
}

// another is the keeper of the next process.
func another(k *Keeper) *Keeper {
	s := &Store{Dir: k.Store.Dir, RunDir: k.Store.RunDir}
	return &Keeper{Store: s, Dir: k.Dir, Hasher: k.Hasher, Random: k.Random}
}

func ready(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	if err := k.Publish(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
}

// holding returns the files with the plaintext, in whatever form it is typed,
// as FOLDER/NAME and their modes.
func holding(t *testing.T, k *Keeper, plain string) (found []string) {
	t.Helper()
	for name, dir := range map[string]string{"own": k.Dir, "run": k.Store.RunDir, "perm": k.Store.Dir} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.Contains(compact(string(b)), compact(plain)) {
				info, _ := d.Info()
				found = append(found, name+"/"+d.Name()+" "+info.Mode().String())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	return found
}

func TestKeeper(t *testing.T) {
	k := newKeeper(t)
	if k.Plain() != "" || k.IsGenerated("") {
		t.Error("there is a password before Load")
	}
	ready(t, k)
	plain := k.Plain()
	if !isGenerated(plain) {
		t.Fatalf("password %q", plain)
	}
	if got := holding(t, k, plain); !slices.Equal(got, []string{"own/password -rw-------"}) {
		t.Errorf("the plaintext is in %q", got)
	}
	fi, err := os.Stat(filepath.Join(k.Store.RunDir, hashName))
	if err != nil || fi.Mode() != 0o640 {
		t.Errorf("hash file: %v, %v, want 0640 for the other console", fi.Mode(), err)
	}
	c, err := k.Login()
	if err != nil || !c.Generated {
		t.Fatalf("%+v, %v", c, err)
	}
	if good, err := k.Hasher.Verify(t.Context(), c, strings.ToUpper(plain)); !good || err != nil {
		t.Errorf("the password that is shown is not taken: %v", err)
	}
	if !k.IsGenerated(strings.ReplaceAll(plain, "-", "/")) || k.IsGenerated(plain[1:]) {
		t.Error("the generated password is not known again")
	}

	// The same password after a restart, and no second hash.
	k2 := another(k)
	ready(t, k2)
	if k2.Plain() != plain {
		t.Errorf("password %q after a restart, want %q", k2.Plain(), plain)
	}
	if c2, _ := k2.Login(); !c2.Same(c) {
		t.Error("a restart made a second hash")
	}

	// It ends when one is set, by whichever console.
	if err := k.Store.Set(cheap(t, "correct horse battery"), noon); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*Keeper{k, k2} {
		if err := k.Load(); err != nil {
			t.Fatal(err)
		}
		if err := k.Publish(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
		if k.Plain() != "" {
			t.Errorf("%q is still shown", k.Plain())
		}
	}
	if got := holding(t, k, plain); got != nil {
		t.Errorf("the plaintext is still in %q", got)
	}
	if _, err := k.Store.Generated(); !errors.Is(err, ErrNone) {
		t.Errorf("the generated password's hash: %v, want that it is gone", err)
	}

	// And a factory reset makes a new one.
	if err := os.Remove(filepath.Join(k.Store.Dir, hashName)); err != nil {
		t.Fatal(err)
	}
	ready(t, k)
	if k.Plain() == "" || k.Plain() == plain {
		t.Errorf("password %q after a factory reset, was %q", k.Plain(), plain)
	}
}

// A write of the plaintext that was cut off leaves nothing behind, once a
// password is set.
func TestKeeperRemovesHalfAWrite(t *testing.T) {
	k := newKeeper(t)
	write(t, k.Dir, "."+plainName+".tmp", "abcde-fghjk-mnpqr-stuvw\n")
	if err := k.Store.Set(cheap(t, "set"), noon); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	if got := holding(t, k, "abcde-fghjk-mnpqr-stuvw"); got != nil {
		t.Errorf("the plaintext is in %q", got)
	}
}

// One that was set is damaged: a generated one is there for the terminals.
func TestKeeperWithDamage(t *testing.T) {
	k := newKeeper(t)
	write(t, k.Store.Dir, hashName, "{")
	ready(t, k)
	c, err := k.Login()
	if err != nil || !c.Generated || k.Plain() == "" {
		t.Fatalf("%+v, %v, shown %q", c, err, k.Plain())
	}
	if good, err := k.Hasher.Verify(t.Context(), c, k.Plain()); !good || err != nil {
		t.Errorf("not taken: %v", err)
	}
}

// A file that is not what Keeper writes is no password; a hash without its
// plaintext must not let anybody in.
func TestKeeperReplacesWhatItDoesNotKnow(t *testing.T) {
	for _, content := range []string{"", "\n", "password1234", "abcde-fghjk-mnpqr-stuv", strings.Repeat("a", 100000)} {
		k := newKeeper(t)
		write(t, k.Dir, plainName, content)
		write(t, k.Store.RunDir, hashName, string(encodeFile(cheap(t, compact(content)), noon)))
		if err := k.Load(); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Login(); !errors.Is(err, ErrNone) {
			t.Errorf("%.30q: %v before the new hash, want ErrNone", content, err)
		}
		if err := k.Publish(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
		c, err := k.Login()
		if err != nil {
			t.Fatal(err)
		}
		if good, _ := k.Hasher.Verify(t.Context(), c, content); good || !isGenerated(k.Plain()) {
			t.Errorf("%.30q: is taken: %v, shown %q", content, good, k.Plain())
		}
	}
}

// The process ended between the two files: the hash is made later.
func TestKeeperWithoutHash(t *testing.T) {
	k := newKeeper(t)
	write(t, k.Dir, plainName, "abcde-fghjk-mnpqr-stuvw\n")
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Login(); !errors.Is(err, ErrNone) {
		t.Errorf("%v, want ErrNone", err)
	}
	if err := k.Publish(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	if c, err := k.Login(); err != nil || !c.Generated {
		t.Errorf("%+v, %v", c, err)
	}
}

// Whatever step fails: the error does not tell the password, none is shown that
// is not kept, and the next try succeeds.
func TestKeeperFaults(t *testing.T) {
	for _, step := range durable.Steps {
		k := newKeeper(t)
		fault, end := failAt(t, step)
		err := k.Load()
		if !errors.Is(err, fault) {
			t.Errorf("Load at %s: %v, want the fault", step, err)
		}
		if k.Plain() != "" {
			t.Errorf("Load at %s: a password is shown that may not be kept", step)
		}
		end()
		if err := k.Load(); err != nil {
			t.Errorf("Load after %s: %v", step, err)
		}
		fault, end = failAt(t, step)
		err = k.Publish(t.Context(), noon)
		if !errors.Is(err, fault) || strings.Contains(compact(err.Error()), compact(k.Plain())) {
			t.Errorf("Publish at %s: %v, want the fault", step, err)
		}
		if _, err := k.Login(); step != "fsync directory" && !errors.Is(err, ErrNone) {
			t.Errorf("Publish at %s: %v, want ErrNone", step, err)
		}
		end()
		if err := k.Publish(t.Context(), noon); err != nil {
			t.Errorf("Publish after %s: %v", step, err)
		}
		if got := holding(t, k, k.Plain()); !slices.Equal(got, []string{"own/password -rw-------"}) {
			t.Errorf("after %s: the plaintext is in %q", step, got)
		}
	}
}

func TestKeeperWithoutFolder(t *testing.T) {
	k := newKeeper(t)
	k.Dir = filepath.Join(k.Dir, "missing")
	if err := k.Load(); !errors.Is(err, fs.ErrNotExist) || k.Plain() != "" {
		t.Errorf("%v, shown %q", err, k.Plain())
	}
	k = newKeeper(t)
	k.Random = strings.NewReader("short")
	if err := k.Load(); err == nil || k.Plain() != "" {
		t.Errorf("%v, shown %q", err, k.Plain())
	}
}

// A password that is set while the hash is computed makes it worthless.
func TestPublishAfterSet(t *testing.T) {
	k := newKeeper(t)
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	k.Hasher.turn <- struct{}{} // somebody else computes
	done := make(chan error, 1)
	go func() { done <- k.Publish(t.Context(), noon) }()
	for len(k.Hasher.queue) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := k.Store.Set(cheap(t, "set"), noon); err != nil {
		t.Fatal(err)
	}
	if err := k.Load(); err != nil {
		t.Fatal(err)
	}
	<-k.Hasher.turn
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := k.Store.Generated(); !errors.Is(err, ErrNone) {
		t.Errorf("%v, want that no hash of a password is left that was ended", err)
	}
}

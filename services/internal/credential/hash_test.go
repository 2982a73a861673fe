package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/argon2"
)

// cheap is a hash that costs nothing, for tests of what surrounds it.
func cheap(t testing.TB, password string) Hash {
	t.Helper()
	h := Hash{memory: 8, passes: 1, lanes: 1, salt: []byte("salt of 16 bytes"), sum: make([]byte, sumSize)}
	h.sum = h.derive(password)
	return h
}

func TestHash(t *testing.T) {
	ctx := t.Context()
	hasher := NewHasher(4)
	h, err := hasher.Hash(ctx, "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	s := h.String()
	if !strings.HasPrefix(s, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s, want 19 MiB, 2 passes, 1 lane", s)
	}
	f := strings.Split(s, "$")
	salt, err1 := base64.RawStdEncoding.DecodeString(f[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(salt) != 16 || len(sum) != 32 {
		t.Fatalf("hash %s: salt of %d and sum of %d bytes, want 16 and 32", s, len(salt), len(sum))
	}
	if got := argon2.IDKey([]byte("correct horse battery"), salt, 2, 19456, 1, 32); string(got) != string(sum) {
		t.Errorf("the sum is not that of the string's parameters")
	}
	again, err := hasher.Hash(ctx, "correct horse battery")
	if err != nil || again.String() == s {
		t.Errorf("two hashes of one password are equal: %s, %v", s, err)
	}
	read, err := ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{
		"correct horse battery": true, "correct horse batterx": false, "Correct horse battery": false,
		"correct horse battery ": false, "correcthorsebattery": false, "": false,
	} {
		if got, err := hasher.Verify(ctx, Credential{Hash: read}, password); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", password, got, err, want)
		}
	}
}

// How a generated password is typed: with its hyphens or what another keyboard
// makes of them, in capitals. One that was set is taken to the letter.
func TestVerifyGenerated(t *testing.T) {
	hasher := NewHasher(0)
	c := Credential{Hash: cheap(t, compact("abcde-fghjk-mnpqr-stuvw")), Generated: true}
	for password, want := range map[string]bool{
		"abcde-fghjk-mnpqr-stuvw": true, "abcdefghjkmnpqrstuvw": true, "ABCDE FGHJK MNPQR STUVW": true,
		"abcde/fghjk/mnpqr/stuvw": true, " abcde-fghjk-mnpqr-stuvw ": true,
		"abcde_fghjk_mnpqr_stuvw": false, "abcde-fghjk-mnpqr-stuv": false, "": false,
	} {
		if got, err := hasher.Verify(t.Context(), c, password); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", password, got, err, want)
		}
	}
	c.Generated = false
	if got, _ := hasher.Verify(t.Context(), c, "abcde-fghjk-mnpqr-stuvw"); got {
		t.Error("a password that was set is compared without its hyphens")
	}
}

const goodPHC = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"

func TestParseHash(t *testing.T) {
	if h, err := ParseHash(goodPHC); err != nil || h.String() != goodPHC {
		t.Errorf("%v, %v", h, err)
	}
	with := func(old, new string) string { return strings.Replace(goodPHC, old, new, 1) }
	for in, want := range map[string]string{
		"":                                   "want $argon2id",
		"$":                                  "want $argon2id",
		goodPHC + "$":                        "want $argon2id",
		"x" + goodPHC:                        "want $argon2id",
		with("argon2id", "argon2i"):          `algorithm "argon2i"`,
		with("argon2id", "2b"):               `algorithm "2b"`,
		with("v=19", "v=16"):                 "want v=19",
		with("m=8", "m=7"):                   "N from 8 to 65536",
		with("m=8", "m=65537"):               "N from 8 to 65536",
		with("m=8", "m=4294967304"):          "N from 8 to 65536", // 8, if bits were cut off
		with("m=8", "m=-8"):                  "N from 8 to 65536",
		with("m=8", "m=08"):                  "N from 8 to 65536",
		with("m=8", "m=+8"):                  "N from 8 to 65536",
		with("m=8", "t=8"):                   "want m=N",
		with("t=1", "t=0"):                   "N from 1 to 16",
		with("t=1", "t=17"):                  "N from 1 to 16",
		with("p=1", "p=0"):                   "N from 1 to 4",
		with("p=1", "p=5"):                   "N from 1 to 4",
		with("p=1", "p=257"):                 "N from 1 to 4", // 1, if bits were cut off
		with(",p=1", ""):                     "want m=…,t=…,p=…",
		with(",p=1", ",p=1,keyid=x"):         "want m=…,t=…,p=…",
		with("c2FsdHNhbHQ", "c2FsdHNhbHQ="):  "salt: illegal",
		with("c2FsdHNhbHQ", "c2FsdHNhbHR"):   "salt: illegal", // bits behind the end
		with("c2FsdHNhbHQ", "c2FsdH\nNhbHQ"): "salt has a line break",
		with("c2FsdHNhbHQ", "c2FsdA"):        "salt of 4 bytes",
		with("c2FsdHNhbHQ", ""):              "salt of 0 bytes",
		with("c2FsdHNhbHQ", strings.Repeat("QUFB", 22)):            "salt of 66 bytes",
		with("MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZg\r"): "sum has a line break",
		with("MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OQ"):           "sum of 10 bytes",
		goodPHC + strings.Repeat("A", 600):                         "at most 512",
	} {
		if h, err := ParseHash(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", in, h, err, want)
		}
	}
}

// What is taken is exactly what would be written, and costs what is allowed.
func FuzzParseHash(f *testing.F) {
	f.Add(goodPHC)
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=65536,t=16,p=4$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ\n$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHash(s)
		if err != nil {
			return
		}
		if h.String() != s {
			t.Errorf("%q is read, %q written", s, h)
		}
		if h.memory > 64*1024 || h.passes > 16 || h.lanes > 4 || h.memory < 8 || h.passes < 1 || h.lanes < 1 {
			t.Errorf("%q: parameters out of bounds", s)
		}
	})
}

// One computes, as many as were allowed wait, the next is turned away at once;
// whoever gives up makes room.
func TestHasherQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hasher := NewHasher(2)
		computing, most, done := 0, 0, 0
		step := make(chan struct{})
		run := func(ctx context.Context, result chan<- error) {
			result <- hasher.run(ctx, func() {
				computing++ // guarded by the turn: the race detector sees if not
				most = max(most, computing)
				<-step
				computing--
				done++
			})
		}
		results := make(chan error, 10)
		for range 3 {
			go run(t.Context(), results)
		}
		synctest.Wait()
		for range 3 {
			if err := hasher.run(t.Context(), func() { t.Error("computed out of turn") }); !errors.Is(err, ErrBusy) {
				t.Fatalf("the fourth: %v, want ErrBusy", err)
			}
		}
		step <- struct{}{}
		if err := <-results; err != nil {
			t.Errorf("the first: %v", err)
		}
		synctest.Wait()
		// One place is free. Who takes it and gives up leaves it free.
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan error, 1)
			go run(ctx, gone)
			synctest.Wait()
			cancel()
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up: %v", err)
			}
		}
		go run(t.Context(), results)
		close(step)
		for range 3 {
			if err := <-results; err != nil {
				t.Errorf("who waited: %v", err)
			}
		}
		if most != 1 || done != 4 {
			t.Errorf("%d at once, %d in all, want 1 and 4", most, done)
		}
	})
}

func TestHasherErrors(t *testing.T) {
	hasher := NewHasher(0)
	hasher.queue <- struct{}{}
	if _, err := hasher.Hash(t.Context(), "x"); !errors.Is(err, ErrBusy) {
		t.Errorf("Hash: %v, want ErrBusy", err)
	}
	if good, err := hasher.Verify(t.Context(), Credential{Hash: cheap(t, "x")}, "x"); good || !errors.Is(err, ErrBusy) {
		t.Errorf("Verify: %v, %v, want false and ErrBusy", good, err)
	}
}

// The check of a name that nobody has costs what that of a new hash does.
func TestDecoy(t *testing.T) {
	hasher := NewHasher(0)
	h, err := hasher.Hash(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	d := Decoy()
	if d.Hash.memory != h.memory || d.Hash.passes != h.passes || d.Hash.lanes != h.lanes || len(d.Hash.salt) != len(h.salt) || len(d.Hash.sum) != len(h.sum) {
		t.Errorf("%v costs other than %v", d.Hash, h)
	}
	if good, err := hasher.Verify(t.Context(), d, ""); good || err != nil {
		t.Errorf("%v, %v, want that no password fits", good, err)
	}
	if d.Same(Decoy()) {
		t.Error("two decoys are one")
	}
}

package web

import (
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/looktest"
)

func TestWordsAreComplete(t *testing.T) {
	keys := append(looktest.Pages(t, pages), looktest.Go(t, ".")...)
	for _, why := range []look.Ended{look.EndedIdle, look.EndedExpired, look.EndedStamp, look.EndedUnknown, "logout"} {
		keys = append(keys, "ended."+string(why))
	}
	for _, m := range []string{"not-found", "cross-origin", "failed", "bad-form"} {
		keys = append(keys, m, m+".title")
	}
	for _, s := range sections {
		keys = append(keys, "nav."+s)
	}
	for _, q := range New(Config{}).pages {
		keys = append(keys, q.Title)
	}
	// The errors of everything that the portal is made of.
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			keys = append(keys, looktest.Faults(t, path)...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	looktest.Complete(t, look.MustLoad(words, "words"), keys)
}

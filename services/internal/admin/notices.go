package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/statefile"
)

// Codes of notices; their words are "notice."+code.
const (
	NoticeRecovered = "password-recovered" // somebody reset admin's password at the console
	NoticeCopy      = "identity-copy"      // the appliance was told that it is a copy
)

// noticeDamaged is the code of a state file that was damaged, "accounts-damaged".
func noticeDamaged(name string) string { return strings.TrimSuffix(name, ".json") + "-damaged" }

const (
	noticeVersion = 1
	maxNotices    = 20 // the oldest goes
)

// noticeBook is what notices.json holds.
type noticeBook struct {
	Version int      `json:"version"`
	Notices []notice `json:"notices"` // oldest first
}

type notice struct {
	Code string    `json:"code"`
	At   time.Time `json:"at"`
}

func (n notice) String() string { return n.Code + " " + n.At.UTC().Format(time.RFC3339) }

var noticeForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

func noticeFile(f *statefile.Folder) *statefile.File[noticeBook] {
	return &statefile.File[noticeBook]{Folder: f, Name: "notices.json", Mode: 0o660, Version: noticeVersion, Limit: 16 << 10,
		Check: func(b *noticeBook) error {
			if len(b.Notices) > maxNotices {
				return fmt.Errorf("%d notices, want at most %d", len(b.Notices), maxNotices)
			}
			for _, n := range b.Notices {
				if !noticeForm.MatchString(n.Code) {
					return fmt.Errorf("notice %.80q is no code", n.Code)
				}
			}
			return nil
		}}
}

// AddNotice keeps a notice until somebody who may operate has seen it. A code is
// small letters, digits and hyphens; one that is there already gets a new time.
func (a *Admin) AddNotice(code string) error {
	_, err := a.notices.Change(context.Background(), noticeBook{Version: noticeVersion}, func(b *noticeBook) error {
		kept := []notice{}
		for _, n := range b.Notices {
			if n.Code != code {
				kept = append(kept, n)
			}
		}
		kept = append(kept, notice{code, a.cfg.Now().UTC().Truncate(time.Second)})
		b.Notices = kept[max(0, len(kept)-maxNotices):]
		return nil
	})
	if err != nil {
		return fmt.Errorf("notice %s: %w", code, err)
	}
	return nil
}

// Notices returns what is kept, and which files are damaged just now.
func (a *Admin) Notices(context.Context) ([]string, error) {
	out := []string{}
	damaged := func(name string, err error) {
		if info, lerr := os.Lstat(a.folder.Path(name)); lerr == nil && statefile.IsDamaged(err) {
			out = append(out, notice{noticeDamaged(name), info.ModTime()}.String())
		}
	}
	_, err := a.accounts.Read()
	damaged(a.accounts.Name, err)
	_, err = a.tokens.Read()
	damaged(a.tokens.Name, err)
	_, err = a.connector.Read()
	damaged(a.connector.Name, err)
	b, err := a.notices.Read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case statefile.IsDamaged(err):
		damaged(a.notices.Name, err)
	case err != nil:
		return nil, err
	}
	for _, n := range b.Notices {
		out = append(out, n.String())
	}
	return out, nil
}

// SeenNotices removes the notices that are kept. What is damaged is told until
// it has been set anew.
func (a *Admin) SeenNotices(ctx context.Context, who Actor) error {
	return a.act(ctx, who, "notices.seen", func() (string, error) {
		var seen []string
		damaged, err := a.notices.Change(ctx, noticeBook{Version: noticeVersion}, func(b *noticeBook) error {
			for _, n := range b.Notices {
				seen = append(seen, n.Code)
			}
			b.Notices = []notice{}
			return nil
		})
		if damaged != nil {
			seen = append(seen, noticeDamaged(a.notices.Name))
		}
		return strings.Join(seen, ", "), err
	})
}

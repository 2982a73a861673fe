package releases

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// maxGrant is how long a link for a download without a sign-in can live.
const maxGrant = 7 * 24 * time.Hour

// Grant makes what lets a program download one file without a sign-in for some
// hours. It is bound to the file, to the account and to its end, and is good only
// as long as the account may download itself.
func (s *Service) Grant(ctx context.Context, who people.Actor, version, name string, hours int) (string, time.Time, error) {
	if hours < 1 || hours > int(maxGrant/time.Hour) {
		return "", time.Time{}, fault.New("hours", "hours", 1, int(maxGrant/time.Hour))
	}
	r, err := s.Get(ctx, version)
	if err != nil {
		return "", time.Time{}, err
	}
	if _, ok := r.File(name); !ok || r.Published.IsZero() || !r.Withdrawn.IsZero() {
		return "", time.Time{}, people.ErrUnknown
	}
	end := s.now().Add(time.Duration(hours) * time.Hour).Truncate(time.Second)
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		return people.Audit(tx, who, "release.link", version, map[string]any{"file": name, "until": end.UTC().Format(time.RFC3339)})
	})
	body := binary.BigEndian.AppendUint64(nil, uint64(end.Unix()))
	body = append(body, who.Account...)
	return base64.RawURLEncoding.EncodeToString(append(s.mac(body, version, name), body...)), end, err
}

// Granted returns the account that a grant for a file was made in, while it is
// good.
func (s *Service) Granted(grant, version, name string) (account string, ok bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(grant)
	if err != nil || len(b) < sha256.Size+8 || len(b) > sha256.Size+8+64 {
		return "", false
	}
	sum, body := b[:sha256.Size], b[sha256.Size:]
	if !hmac.Equal(sum, s.mac(body, version, name)) || s.now().After(time.Unix(int64(binary.BigEndian.Uint64(body)), 0)) {
		return "", false
	}
	return string(body[8:]), true
}

func (s *Service) mac(body []byte, version, name string) []byte {
	h := hmac.New(sha256.New, s.vault.Derive("download link"))
	h.Write([]byte(strings.Join([]string{version, name, ""}, "\x00")))
	h.Write(body)
	return h.Sum(nil)
}

package releases

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// maxGrant is how long a link for a download without a sign-in can live.
const maxGrant = 7 * 24 * time.Hour

// Grant makes what lets a program download one file without a sign-in for some
// hours. It is bound to the file, to its end and to who makes it, and is good only
// as long as he, the token that he used, and his account may download themselves.
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
	body = append(body, strings.Join([]string{who.Account, who.User, who.Token}, " ")...)
	return base64.RawURLEncoding.EncodeToString(append(s.mac(body, version, name), body...)), end, err
}

// Granted returns the account that a grant for a file was made in, while it is
// good; people.ErrUnknown when it is not. Whether the account may download is
// for the caller to find out.
func (s *Service) Granted(ctx context.Context, grant, version, name string) (account string, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(grant)
	if err != nil || len(b) < sha256.Size+8 || len(b) > sha256.Size+8+128 {
		return "", people.ErrUnknown
	}
	sum, body := b[:sha256.Size], b[sha256.Size:]
	if !hmac.Equal(sum, s.mac(body, version, name)) || s.now().After(time.Unix(int64(binary.BigEndian.Uint64(body)), 0)) {
		return "", people.ErrUnknown
	}
	by := strings.Split(string(body[8:]), " ")
	if len(by) != 3 {
		return "", people.ErrUnknown
	}
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, by[1])
		if err != nil {
			return err
		}
		if u.State != people.Active || u.Account != by[0] || !(people.Actor{Account: u.Account, Role: u.Role}).At(people.Admin) {
			return people.ErrUnknown
		}
		if by[2] == "" {
			return nil
		}
		var one int
		return tx.Row("SELECT 1 FROM api_tokens WHERE id = ? AND (expires = 0 OR expires > ?)", by[2], store.Millis(s.now())).Scan(&one)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = people.ErrUnknown
	}
	return by[0], err
}

func (s *Service) mac(body []byte, version, name string) []byte {
	h := hmac.New(sha256.New, s.vault.Derive("download link"))
	h.Write([]byte(strings.Join([]string{version, name, ""}, "\x00")))
	h.Write(body)
	return h.Sum(nil)
}

package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
)

// tokenName begins the name of an Actor that is a token. No account's name has a
// blank.
const tokenName = "token "

// maxDays is the longest life of a token that ends.
const maxDays = 3650

// tokenBook returns the tokens; a damaged file has none (Notices tells).
func (a *Admin) tokenBook() (account.TokenBook, error) {
	b, err := a.tokens.Read()
	if empty(err) {
		return account.NewTokenBook(), nil
	}
	return b, err
}

// TokenActor returns who a token's secret stands for. A token may do no more
// than whoever made it may now, and nothing once he is gone, or while he must
// change the password: somebody reset it, perhaps because it was known.
func (a *Admin) TokenActor(secret string) (Actor, error) {
	b, err := a.tokenBook()
	if err != nil {
		return Actor{}, err
	}
	now := a.cfg.Now()
	t := b.Find(secret, now)
	if t == nil {
		return Actor{}, ErrUnknown
	}
	authority := t.Authority
	if t.By != credential.User { // who is always there and may do everything
		maker, _, err := a.Stamp(t.By)
		if err != nil {
			return Actor{}, err
		}
		if maker.MustChange {
			return Actor{}, ErrUnknown
		}
		if maker.Authority != account.Operate {
			authority = account.View
		}
	}
	a.usedToken(t.ID, t.Used, now.UTC().Truncate(time.Hour))
	return Actor{Name: tokenName + t.ID, Authority: authority, Via: "api"}, nil
}

// usedToken remembers the hour in which a token was used. It is written later,
// by one writer; what is not written when the process ends is lost.
func (a *Admin) usedToken(id string, saved, hour time.Time) {
	if !hour.After(saved) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !hour.After(a.hours[id]) {
		return
	}
	a.hours[id] = hour
	if a.saving {
		return // that writer takes it along, or the next use in another hour does
	}
	a.saving = true
	a.later.Go(a.saveHours)
}

func (a *Admin) saveHours() {
	err := change(context.Background(), a, a.tokens, account.NewTokenBook(), func(b *account.TokenBook) error {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.saving = false
		for i := range b.Tokens {
			t := &b.Tokens[i]
			if h := a.hours[t.ID]; h.After(t.Used) {
				t.Used = h
			}
		}
		return nil
	})
	if err != nil {
		a.mu.Lock()
		a.saving = false
		a.mu.Unlock()
		a.cfg.Log.Warn("tokens: when they were used is not saved", "error", err)
	}
}

// Tokens lists the tokens, oldest first.
func (a *Admin) Tokens(context.Context) ([]account.Token, error) {
	b, err := a.tokenBook()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out := []account.Token{}
	for _, t := range b.Tokens {
		if h := a.hours[t.ID]; h.After(t.Used) {
			t.Used = h
		}
		out = append(out, t.Token)
	}
	return out, nil
}

// AddToken makes a token.
func (a *Admin) AddToken(ctx context.Context, who Actor, in TokenInput) (account.Token, string, error) {
	var made account.Token
	var secret string
	err := a.act(ctx, who, "token.add", func() (string, error) {
		var faults fault.List
		title := strings.TrimSpace(in.Title)
		switch {
		case title == "":
			faults.Add("title", "required")
		case utf8.RuneCountInString(title) > account.MaxTitle:
			faults.Add("title", "long", account.MaxTitle)
		case clean(title, len(title)) != title:
			faults.Add("title", "control-character")
		}
		faults = append(faults, choice("authority", in.Authority, string(account.Operate), string(account.View))...)
		var expires time.Time
		if days := strings.TrimSpace(in.Days); days != "" {
			n, err := strconv.Atoi(days)
			if err != nil || n < 1 || n > maxDays {
				faults.Add("days", "number", clean(days, 20), 1, maxDays)
			}
			expires = a.seconds().AddDate(0, 0, n)
		}
		// A token that leaked must not be able to make others that outlive it.
		if strings.HasPrefix(who.Name, tokenName) {
			faults.Add("", "token-by-token")
		}
		if err := faults.Err(); err != nil {
			return "", err
		}
		if err := a.savable(ctx); err != nil {
			return clean(title, 80), err
		}
		id, s, err := account.NewToken(rand.Reader)
		if err != nil {
			return "", err
		}
		t := account.Token{ID: id, Title: title, Authority: account.Authority(in.Authority), By: who.Name, Created: a.seconds(), Expires: expires}
		err = change(ctx, a, a.tokens, account.NewTokenBook(), func(b *account.TokenBook) error {
			if len(b.Tokens) >= account.MaxTokens {
				return fault.New("", "token-many", account.MaxTokens)
			}
			for _, o := range b.Tokens {
				if o.ID == id {
					return errors.New("token: the random id is taken: try again")
				}
			}
			b.Tokens = append(b.Tokens, account.TokenRecord{Token: t, Sum: account.TokenSum(s)})
			return nil
		})
		if err == nil {
			made, secret = t, s
		}
		return id + " " + title + " " + in.Authority, err
	})
	return made, secret, err
}

// RemoveToken ends a token.
func (a *Admin) RemoveToken(ctx context.Context, who Actor, id string) error {
	return a.act(ctx, who, "token.remove", func() (string, error) {
		detail := clean(id, 40)
		if err := a.savable(ctx); err != nil {
			return detail, err
		}
		err := change(ctx, a, a.tokens, account.NewTokenBook(), func(b *account.TokenBook) error {
			for i, t := range b.Tokens {
				if t.ID == id {
					detail += " " + t.Title
					b.Tokens = append(b.Tokens[:i], b.Tokens[i+1:]...)
					return nil
				}
			}
			return ErrUnknown
		})
		return detail, err
	})
}

// removeTokens ends all tokens that an account made.
func (a *Admin) removeTokens(ctx context.Context, by string) error {
	made := func(t account.TokenRecord) bool { return t.By == by }
	if b, err := a.tokenBook(); err != nil || !slices.ContainsFunc(b.Tokens, made) {
		return err
	}
	if err := a.savable(ctx); err != nil {
		return err
	}
	return change(ctx, a, a.tokens, account.NewTokenBook(), func(b *account.TokenBook) error {
		b.Tokens = slices.DeleteFunc(b.Tokens, made)
		return nil
	})
}

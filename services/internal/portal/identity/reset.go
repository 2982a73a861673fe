package identity

import (
	"context"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// LinkInfo is what a link is about, for the page that acts on it.
type LinkInfo struct {
	Email   string `json:"email"`
	Name    string `json:"name"`
	Account string `json:"account"` // its name
}

// Look tells what a link is about, and leaves it good.
func (s *Service) Look(ctx context.Context, purpose people.Purpose, link string) (info LinkInfo, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		info = LinkInfo{}
		l, err := people.LookLink(tx, purpose, link, time.Now())
		if err != nil {
			return err
		}
		switch purpose {
		case people.LinkVerify:
			p, err := s.pending(l.Data)
			info = LinkInfo{p.Email, p.Name, p.Account}
			return err
		case people.LinkSignup, people.LinkEmail:
			info.Email = l.Data
		}
		if l.User == "" {
			return nil
		}
		u, err := people.GetUser(tx, l.User)
		if err != nil {
			return err
		}
		if info.Name = u.Name; info.Email == "" {
			info.Email = u.Email
		}
		if u.Account != "" {
			a, err := people.GetAccount(tx, u.Account)
			info.Account = a.Name
			return err
		}
		return nil
	})
	return info, linkFault(err)
}

// AskReset sends a link to set a new password, when somebody has the address.
// Nothing else tells whether somebody does.
func (s *Service) AskReset(ctx context.Context, email, language string) error {
	email, err := people.NormalizeEmail("email", email)
	if err != nil {
		return err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		u, err := people.FindUser(tx, email)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || u.State == people.Suspended {
			// As much is written as else: the time tells nothing.
			_, err := people.MakeLink(tx, "none", "", "", people.ResetTTL)
			return err
		}
		secret, err := people.MakeLink(tx, people.LinkReset, u.ID, "", people.ResetTTL)
		if err != nil {
			return err
		}
		if u.Language != "" {
			language = u.Language
		}
		return mail.Queue(tx, s.vault, mail.Message{To: email, Kind: "reset", Language: language, Link: people.LinkReset.Path(secret)}, people.ResetTTL)
	})
	if errors.Is(err, mail.ErrMany) {
		return nil
	}
	return err
}

// good returns an error unless a link is good: before a hash is made of what
// comes with it.
func (s *Service) good(ctx context.Context, purpose people.Purpose, link string) error {
	return linkFault(s.db.Read(ctx, func(tx *store.Tx) error {
		_, err := people.LookLink(tx, purpose, link, time.Now())
		return err
	}))
}

// Reset sets a new password. The link proves the address, too. All sessions end.
func (s *Service) Reset(ctx context.Context, link, password, from string) error {
	if err := s.good(ctx, people.LinkReset, link); err != nil {
		return err
	}
	hash, err := s.hash(ctx, "password", password)
	if err != nil {
		return err
	}
	return linkFault(s.db.Write(ctx, func(tx *store.Tx) error {
		now := time.Now()
		l, err := people.TakeLink(tx, people.LinkReset, link, now)
		if err != nil {
			return err
		}
		u, err := people.GetUser(tx, l.User)
		if err != nil {
			return err
		}
		if u.State == people.Suspended {
			return people.ErrLink
		}
		if err := setPassword(tx, u.ID, hash, now); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE users SET state = ? WHERE id = ?", string(people.Active), u.ID); err != nil {
			return err
		}
		for _, p := range []people.Purpose{people.LinkReset, people.LinkInvite} {
			if err := people.DropLinks(tx, p, u.ID); err != nil {
				return err
			}
		}
		if err := s.tellPassword(tx, u); err != nil {
			return err
		}
		return people.Audit(tx, ActorOf(u, from, "web"), "password.reset", u.ID, nil)
	}))
}

// Accept takes an invitation: the person chooses a name and a password.
func (s *Service) Accept(ctx context.Context, link, name, password, language, from string) (people.User, error) {
	var u people.User
	var l fault.List
	if err := s.good(ctx, people.LinkInvite, link); err != nil {
		return u, err
	}
	text(&l, "name", &name)
	l = append(l, judge("password", password)...)
	if err := l.Err(); err != nil {
		return u, err
	}
	hash, err := s.hash(ctx, "password", password)
	if err != nil {
		return u, err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		now := time.Now()
		l, err := people.TakeLink(tx, people.LinkInvite, link, now)
		if err != nil {
			return err
		}
		if u, err = people.GetUser(tx, l.User); err != nil {
			return err
		}
		if u.State != people.Invited {
			return people.ErrLink
		}
		if err := setPassword(tx, u.ID, hash, now); err != nil {
			return err
		}
		if err := people.DropLinks(tx, people.LinkInvite, u.ID); err != nil {
			return err
		}
		u.Name, u.State = name, people.Active
		if u.Language == "" {
			u.Language = language
		}
		if _, err := tx.Exec("UPDATE users SET name = ?, name_key = ?, state = ?, language = ? WHERE id = ?", u.Name, people.Key(u.Name), string(u.State), u.Language, u.ID); err != nil {
			return err
		}
		if err := mail.Done(tx, u.Email, "invite"); err != nil {
			return err
		}
		return people.Audit(tx, ActorOf(u, from, "web"), "invite.accept", u.ID, nil)
	})
	return u, linkFault(err)
}

// Setup makes the first operator.
func (s *Service) Setup(ctx context.Context, link, name, email, password, language, from string) (people.User, error) {
	var u people.User
	if err := s.good(ctx, people.LinkSetup, link); err != nil {
		return u, err
	}
	var l fault.List
	text(&l, "name", &name)
	email, err := people.NormalizeEmail("email", email)
	l = append(l, fault.Of(err)...)
	l = append(l, judge("password", password)...)
	if err := l.Err(); err != nil {
		return u, err
	}
	hash, err := s.hash(ctx, "password", password)
	if err != nil {
		return u, err
	}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		now := time.Now()
		if _, err := people.TakeLink(tx, people.LinkSetup, link, now); err != nil {
			return err
		}
		if has, err := people.HasOperator(tx); err != nil || has {
			if err == nil {
				err = people.ErrLink
			}
			return err
		}
		var err error
		u, err = people.InsertUser(tx, people.User{Email: email, Name: name, Operator: true, State: people.Active, Language: language})
		if errors.Is(err, store.ErrConflict) {
			return fault.New("email", "person-exists")
		}
		if err != nil {
			return err
		}
		if err := setPassword(tx, u.ID, hash, now); err != nil {
			return err
		}
		return people.Audit(tx, ActorOf(u, from, "web"), "operator.setup", u.ID, nil)
	})
	return u, linkFault(err)
}

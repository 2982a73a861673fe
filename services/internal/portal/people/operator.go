package people

import (
	"context"
	"errors"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

// HasOperator reports whether somebody operates the portal.
func HasOperator(tx *store.Tx) (bool, error) {
	var n int
	err := tx.Row("SELECT COUNT(*) FROM users WHERE operator AND state = ?", string(Active)).Scan(&n)
	return n > 0, err
}

// SetupLink returns the path of a one-time link, "/setup#SECRET", on which the
// first operator gives his name, address and password; the caller puts the
// portal's URL before it and shows it where nobody else looks: on the terminal,
// or in a file that only its owner can read. It is good for SetupTTL, and those
// before it are not any more. When the portal has an operator it returns "".
func SetupLink(ctx context.Context, db *store.DB) (path string, err error) {
	err = db.Write(ctx, func(tx *store.Tx) error {
		path = ""
		if has, err := HasOperator(tx); err != nil || has {
			return err
		}
		if _, err := tx.Exec("DELETE FROM links WHERE purpose = ?", string(LinkSetup)); err != nil {
			return err
		}
		secret, err := MakeLink(tx, LinkSetup, "", "", SetupTTL)
		path = LinkSetup.Path(secret)
		return err
	})
	return path, err
}

// MakeOperator makes the person of an address an operator of the portal, for the
// command line: somebody who can run commands where the database is may. A person
// who is not there is made, without an account; path is then the link on which he
// chooses his password ("/invite#SECRET"), and "" otherwise.
func MakeOperator(ctx context.Context, db *store.DB, email, name string) (path string, err error) {
	email, err = NormalizeEmail("email", email)
	if err != nil {
		return "", err
	}
	err = db.Write(ctx, func(tx *store.Tx) error {
		path = ""
		u, err := FindUser(tx, email)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if name == "" {
				name = email
			}
			if u, err = InsertUser(tx, User{Email: email, Name: name, Operator: true, State: Invited}); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			// His sessions begin anew: what they may do has changed.
			if _, err := tx.Exec("UPDATE users SET operator = ?, stamp = stamp + 1 WHERE id = ?", true, u.ID); err != nil {
				return err
			}
		}
		if u.State == Invited {
			secret, err := MakeLink(tx, LinkInvite, u.ID, "", InviteTTL)
			if err != nil {
				return err
			}
			path = LinkInvite.Path(secret)
		}
		return Audit(tx, Actor{Name: "command line", Via: "command"}, "operator.make", u.ID, map[string]any{"email": email})
	})
	return path, err
}

// Package account keeps who may administer the appliance: the administrator
// (admin, whose password package credential keeps), other operators, their
// second factors, and tokens for automation.
package account

import "time"

// Authority is what an operator may do.
type Authority string

// The two kinds of operators.
const (
	Operate Authority = "operate" // everything
	View    Authority = "view"    // look, and change his own password and second factor
)

// Account is an operator, without secrets.
type Account struct {
	Name       string    `json:"name"`
	Authority  Authority `json:"authority"`
	MustChange bool      `json:"mustChange"`   // the password, at the next login
	TOTP       bool      `json:"totp"`         // a second factor is asked for
	Set        time.Time `json:"set,omitzero"` // when the password was set
	Generated  bool      `json:"generated"`    // admin: the password on the screen still counts
}

// Token is for programs, without its secret.
type Token struct {
	ID        string    `json:"id"`
	Title     string    `json:"title"`
	Authority Authority `json:"authority"`
	By        string    `json:"by"` // who made it
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"` // never
	Used      time.Time `json:"used,omitzero"`    // last, to the hour; never
}

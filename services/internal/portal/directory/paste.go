package directory

import (
	"encoding/csv"
	"errors"
	"io"
	"net/mail"
	"strings"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// ParseInvitees reads people to invite from what somebody pasted, one a line:
//
//	anna@example.com
//	Anna Ivanova <anna@example.com>
//	anna@example.com, Anna Ivanova, admin, onprem
//
// The last form is CSV (RFC 4180) with commas, semicolons or tabs; name, role and
// kind may be left out, and a first line of headings is passed over. What a line
// leaves out it has from the arguments. Whether the values are right is Invite's
// to say. A fault names the line, from 1.
func ParseInvitees(field, text string, role people.Role, kind people.Kind) ([]Invitee, error) {
	var out []Invitee
	text = strings.TrimPrefix(text, "\ufeff") // of spreadsheets
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || n == 0 && !strings.Contains(line, "@") {
			continue
		}
		if len(out) == maxInvite {
			return nil, fault.New(field, "many", maxInvite)
		}
		p := Invitee{Role: role, Kind: kind}
		if strings.HasSuffix(line, ">") {
			a, err := mail.ParseAddress(line)
			if err != nil {
				return nil, fault.New(field, "people-line", n+1)
			}
			p.Email, p.Name = a.Address, a.Name
			out = append(out, p)
			continue
		}
		r := csv.NewReader(strings.NewReader(line))
		r.TrimLeadingSpace = true
		switch {
		case strings.Contains(line, "\t"):
			r.Comma = '\t'
		case strings.Contains(line, ";"):
			r.Comma = ';'
		}
		cells, err := r.Read()
		if err != nil && !errors.Is(err, io.EOF) || len(cells) > 4 {
			return nil, fault.New(field, "people-line", n+1)
		}
		for i, c := range cells {
			c = strings.TrimSpace(c)
			switch {
			case i == 0:
				p.Email = c
			case c == "":
			case i == 1:
				p.Name = c
			case i == 2:
				p.Role = people.Role(strings.ToLower(c))
			case i == 3:
				p.Kind = people.Kind(strings.ReplaceAll(strings.ToLower(c), "-", ""))
			}
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, fault.New(field, "required")
	}
	return out, nil
}

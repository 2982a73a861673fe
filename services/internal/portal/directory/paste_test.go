package directory

import (
	"reflect"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

func TestParseInvitees(t *testing.T) {
	got, err := ParseInvitees("text", "\ufeffE-mail;Name\r\n a@example.com \r\n\r\nАнна Иванова <b@example.com>\n\"c@example.com\";\"Doe, Jane\";Admin;On-Prem\nd@example.com,,member\ne@example.com\tEve", people.Member, people.KindBasic)
	want := []Invitee{
		{"a@example.com", "", people.Member, people.KindBasic},
		{"b@example.com", "Анна Иванова", people.Member, people.KindBasic},
		{"c@example.com", "Doe, Jane", people.Admin, people.KindOnPrem},
		{"d@example.com", "", people.Member, people.KindBasic},
		{"e@example.com", "Eve", people.Member, people.KindBasic},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for text, code := range map[string]string{
		"":                                     "required",
		"Name":                                 "required",
		"a@b.c\n<<>":                           "people-line",
		"a@b.c,1,2,3,4":                        "people-line",
		"a@b.c\n\"x":                           "people-line",
		strings.Repeat("a@b.c\n", maxInvite+1): "many",
	} {
		if _, err := ParseInvitees("text", text, "", ""); err == nil || fault.Of(err)[0].Code != code || fault.Of(err)[0].Field != "text" {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// Whatever is pasted, there are as many people as lines at most, or an error that
// names the field.
func FuzzParseInvitees(f *testing.F) {
	for _, s := range []string{"a@b.c", "A <a@b.c>", "a@b.c;n;admin;onprem", "\"", "\ufeff", "a@b.c,\"x\r\ny\"", "@\x00", "<>", "=?utf-8?q?a?= <a@b.c>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseInvitees("text", s, people.Member, "")
		if err != nil {
			if l := fault.Of(err); len(l) != 1 || l[0].Field != "text" {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if len(got) == 0 || len(got) > maxInvite || len(got) > strings.Count(s, "\n")+1 {
			t.Errorf("%q: %d people", s, len(got))
		}
		for _, p := range got {
			if strings.Contains(p.Email, "\n") || strings.Contains(p.Name, "\n") || p.Role == "" {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

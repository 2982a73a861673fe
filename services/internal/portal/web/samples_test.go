package web_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// plain is a request of the owner without anything.
func plain(*world) sample { return sample{} }

// with is a request of the owner with a body.
func with(body func(*world) object) func(*world) sample {
	return func(w *world) sample { return sample{body: body(w)} }
}

// of is a request of the owner with the ids of those names in its path.
func of(names ...string) func(*world) sample {
	return func(w *world) sample {
		s := sample{}
		for _, n := range names {
			s.path = append(s.path, w.ids[n])
		}
		return s
	}
}

func (f sampler) with(body func(*world) object) sampler {
	return func(w *world) sample {
		s := f(w)
		s.body = body(w)
		return s
	}
}

func (f sampler) member() sampler {
	return func(w *world) sample {
		s := f(w)
		s.who = &w.member
		return s
	}
}

func (f sampler) operator() sampler {
	return func(w *world) sample {
		s := f(w)
		s.who = &w.operator
		return s
	}
}

type sampler func(*world) sample

func fixed(o object) func(*world) object { return func(*world) object { return o } }

// samples are requests that work in a world, by operation. An operation that
// works in none has its reason in unsampled.
var samples = map[string]sampler{
	"getSelf": plain, "getDescription": plain, "getTicketKeys": plain,

	"getAccount": plain, "listAudit": plain, "exportAuditLines": plain, "exportAuditCSV": plain, "listSubaccounts": plain,
	"setAccount": with(func(w *world) object { return object{"name": w.marker + " renamed", "defaultKind": "onprem"} }),
	"closeAccount": func(w *world) sample { // one without sub-accounts
		_, u := w.p.Account("Closing", people.Business)
		c := as(w.t, w.p, "owner of another account", u)
		return sample{who: &c, body: object{"name": "Closing"}}
	},
	"addSubaccount": with(func(w *world) object {
		return object{"name": w.marker + " Third", "ownerName": "X", "ownerEmail": w.marker + "-third@example.com"}
	}),
	"suspendSubaccount": of("sub"), "resumeSubaccount": of("sub"),
	"setSubaccountZones": sampler(of("sub")).with(func(w *world) object { return object{"zones": []string{w.ids["zone"]}} }),
	"requireFactor":      with(fixed(object{"required": false})),

	"listUsers": plain, "getUser": of("user"), "removeUser": of("user"), "suspendUser": of("user"), "resumeUser": of("user"), "transferAccount": of("user"),
	"inviteAgain": of("invited"), "dropFactor": of("user"),
	"inviteUser":  with(func(w *world) object { return object{"email": w.marker + "-new@example.com", "role": "member"} }),
	"inviteUsers": with(func(w *world) object { return object{"text": w.marker + "-new@example.com"} }),
	"setKinds":    with(func(w *world) object { return object{"people": []string{w.ids["user"]}, "kind": "onprem"} }),
	"setUser":     sampler(of("user")).with(func(w *world) object { return object{"name": w.marker + " New", "groups": []string{w.ids["group"]}} }),
	"listGroups":  plain, "getGroup": of("group"), "removeGroup": of("group"),
	"addGroup":     with(func(w *world) object { return object{"name": w.marker + " Second", "kind": "basic"} }),
	"setGroup":     sampler(of("group")).with(func(w *world) object { return object{"name": w.marker + " Renamed", "kind": "onprem"} }),
	"addMembers":   sampler(of("group")).with(func(w *world) object { return object{"people": []string{w.ids["user"]}} }),
	"removeMember": func(w *world) sample { return sample{path: []string{w.ids["group"], w.memberUser.ID}} },

	"setProfile": with(func(w *world) object {
		return object{"name": w.marker + " Self", "language": "ru", "timezone": "Asia/Tokyo"}
	}),
	"setPassword": with(fixed(object{"current": testPassword, "new": "seven blue bottles", "confirm": "seven blue bottles"})),
	"askEmail": with(func(w *world) object {
		return object{"email": w.marker + "-else@example.com", "password": testPassword}
	}),
	"beginFactor": with(fixed(object{"password": testPassword})), "removeFactor": with(fixed(object{"password": testPassword})),
	"listSessions": plain, "endSession": of("session"), "endOtherSessions": plain,
	"listTokens": plain, "removeToken": of("token"),
	"addToken": with(func(w *world) object {
		return object{"title": w.marker, "scopes": []string{"meetings:read"}, "days": "1"}
	}),

	"listMeetings": sampler(plain).member(), "getHosting": sampler(plain).member(), "getRoom": sampler(plain).member(),
	"addMeeting": func(w *world) sample { return sample{who: &w.member, body: w.meeting()} }, "addInstantMeeting": sampler(with(fixed(object{"topic": "Now"}))).member(),
	"setRoom": sampler(with(func(w *world) object { return object{"topic": w.marker + " Room", "waitingRoom": true} })).member(), "getMeeting": sampler(of("meeting")).member(),
	"setMeeting": func(w *world) sample {
		return sample{who: &w.member, path: []string{w.ids["meeting"]}, body: w.meeting()}
	},
	"removeMeeting": sampler(of("meeting")).member(), "startMeeting": sampler(of("meeting")).member(), "listOccurrences": sampler(of("meeting")).member(), "getCalendar": sampler(of("meeting")).member(),
	"setOccurrence": sampler(of("meeting", "occurrence")).with(func(w *world) object {
		return object{"topic": w.marker + " Once", "start": "2031-03-11T11:00", "duration": 60}
	}).member(),
	"cancelOccurrence": sampler(of("meeting", "occurrence")).member(),
	"join":             sampler(with(func(w *world) object { return object{"number": w.ids["number"], "passcode": w.ids["passcode"]} })).member(),

	"getConnector": plain, "getReadiness": plain, "listEnrolmentTokens": plain, "listAppliances": plain,
	"enableConnector": with(func(w *world) object { return object{"zone": w.marker + " Zone"} }), "disableConnector": plain,
	"setProduction":        with(fixed(object{"on": false})),
	"addEnrolmentToken":    with(func(w *world) object { return object{"zone": w.ids["zone"], "title": w.marker, "days": 30} }),
	"rotateEnrolmentToken": sampler(of("enrolment")).with(fixed(object{"hours": 1})), "revokeEnrolmentToken": sampler(of("enrolment")).with(fixed(object{"appliances": true})),
	"addZone": with(func(w *world) object { return object{"name": w.marker + " Third"} }), "setZone": sampler(of("zone")).with(func(w *world) object { return object{"name": w.marker + " Renamed"} }),
	"removeZone": of("spare"), "getAllowed": of("zone"),
	"setAllowed": sampler(of("zone")).with(func(w *world) object {
		return object{"users": []string{w.ids["user"]}, "groups": []string{w.ids["group"]}, "accounts": []string{w.ids["sub"]}}
	}),
	"setApplianceNames": sampler(of("appliance")).with(fixed(object{"publicName": "meet.example.com", "external": []string{"203.0.113.7"}})), "removeAppliance": of("appliance"),

	"listControllerCertificates": plain, "getNameSettings": plain,
	"setNameSettings": with(func(w *world) object {
		return object{"directory": "https://acme.example/directory", "email": w.marker + "-acme@example.com", "terms": false, "method": "http-01"}
	}),

	"getMonitor": plain, "getHistory": of("zone"), "listRouters": of("zone"),

	"listReleases": plain, "linkRelease": func(w *world) sample {
		v := release(w, false)
		return sample{path: []string{v, "parley-router.ovf"}, body: object{"hours": 2}}
	},
	"listAllReleases": sampler(plain).operator(),
	"beginRelease":    sampler(with(func(*world) object { return object{"version": version(), "notes": object{"en": "A", "ru": "Б"}} })).operator(),
	"putReleaseFile": func(w *world) sample {
		v := version()
		w.operator.works("POST", "/api/v1/operator/releases", object{"version": v}, nil)
		return sample{who: &w.operator, path: []string{v, "SOURCES.txt"}, body: []byte("sources")}
	},
	"publishRelease": func(w *world) sample { return sample{who: &w.operator, path: []string{release(w, true)}} },
	"discardRelease": func(w *world) sample { return sample{who: &w.operator, path: []string{release(w, true)}} },
	"setReleaseNotes": func(w *world) sample {
		return sample{who: &w.operator, path: []string{release(w, false)}, body: object{"en": "A", "ru": "Б"}}
	},
	"withdrawRelease": func(w *world) sample {
		return sample{who: &w.operator, path: []string{release(w, false)}, body: object{"withdrawn": true}}
	},

	"listTicketKeys": sampler(plain).operator(), "replaceTicketKeys": sampler(plain).operator(), "getTotals": sampler(plain).operator(), "listAccounts": sampler(plain).operator(),
	"addAccount": sampler(with(func(w *world) object {
		return object{"name": w.marker + " Fourth", "type": "business", "ownerName": "X", "ownerEmail": w.marker + "-fourth@example.com"}
	})).operator(),
	"getAccountOf": sampler(of("account")).operator(), "setAccountType": sampler(of("account")).with(fixed(object{"type": "business"})).operator(),
	"suspendAccount": sampler(of("account")).operator(), "resumeAccount": sampler(of("account")).operator(),
	"listOperators": sampler(plain).operator(), "addOperator": sampler(with(func(w *world) object { return object{"email": w.marker + "-op@example.com", "name": "X"} })).operator(),
	"removeOperator": func(w *world) sample { return sample{who: &w.operator, path: []string{w.p.Operator().ID}} },
	"getPortal":      sampler(plain).operator(), "setPortal": sampler(with(fixed(object{"name": "", "auditDays": 0}))).operator(),
	"listPortalAudit": sampler(plain).operator(), "exportPortalAuditLines": sampler(plain).operator(), "exportPortalAuditCSV": sampler(plain).operator(),
	"dropFactorAnywhere": sampler(of("user")).operator(),
	"listMail":           sampler(plain).operator(), "getMailSettings": sampler(plain).operator(),
	"revealMail": mailed, "dropMail": mailed,
	"setMailSettings": sampler(with(fixed(object{"host": "", "port": 0, "security": "starttls"}))).operator(),
	"setSignup":       sampler(with(fixed(object{"mode": "open"}))).operator(),
	"inviteAccount":   sampler(with(func(w *world) object { return object{"email": w.marker + "-fifth@example.com"} })).operator(),
	"listProviders":   sampler(plain).operator(),

	"signUp": with(func(w *world) object {
		return object{"name": "X", "account": "Y", "type": "business", "email": w.marker + "-stranger@example.com", "password": testPassword}
	}),
	"askReset": with(func(w *world) object { return object{"email": w.ownerUser.Email} }),
}

func mailed(w *world) sample {
	mails := w.list(w.operator, "/api/v1/operator/mail")
	if len(mails) == 0 {
		w.t.Fatal("no mail waits")
	}
	return sample{who: &w.operator, path: []string{mails[0]["id"].(string)}}
}

// versions counts releases: they are the portal's, not a world's.
var versions atomic.Int32

func version() string {
	return fmt.Sprintf("1.0.%d", versions.Add(1))
}

// release makes a version; a hidden one is not published yet.
func release(w *world, hidden bool) string {
	v := version()
	w.p.Import(w.p.Output(v), v, hidden)
	return v
}

// unsampled are operations that no request of a world's people makes work, each
// with the test that does.
var unsampled = map[string]string{
	"enrol":            "an appliance's; newWorld has one enrol",
	"verifySignup":     "needs a link from a mail: TestSignUp",
	"resendSignup":     "needs the handle of a sign-up: TestSignUp",
	"lookAtLink":       "needs a link from a mail: TestReset",
	"resetPassword":    "needs a link from a mail: TestReset",
	"acceptInvitation": "needs a link from a mail: TestInvitation",
	"setUp":            "needs a portal without an operator: TestSetup",
	"confirmEmail":     "needs a link from a mail: TestEmailChange",
	"confirmFactor":    "needs a code: TestFactor",
	"renewRecovery":    "needs a second factor: TestFactor",
	"testMail":         "needs a mail server: TestMail",
	"addProvider":      "asks a provider: TestOIDC",
	"removeProvider":   "needs a provider: TestOIDC",
}

// forAll are operations that change something in every account, as their summary
// tells the operator.
var forAll = map[string]bool{"replaceTicketKeys": true}

// Every operation of the description works for the account's own people, and
// does nothing to another account. An operation without a sample fails: nothing
// that is built on samples would try it.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	p := portaltest.New(t)
	victim := newWorld(t, p, "Quagga")
	rows, _ := belongings(dump(t, p), victim.account.ID, "")
	was := texts(rows)
	for _, o := range table(t, p) {
		if unsampled[o.ID] != "" {
			continue
		}
		if samples[o.ID] == nil {
			t.Errorf("%s has no sample", o)
			continue
		}
		t.Run(o.ID, func(t *testing.T) {
			w := newWorld(t, p, "Bluebuck"+o.ID)
			defer w.appliance.Stop()
			s, _ := sampleOf(w, o)
			a := s.call(o)
			if want := s.want; a.status != want && (want != 0 || a.status != http.StatusOK && a.status != http.StatusNoContent) {
				t.Errorf("%s: status %d %.400s", o, a.status, a.text)
			}
		})
		rows, _ := belongings(dump(t, p), victim.account.ID, "")
		now := texts(rows)
		if forAll[o.ID] || same(t, o.ID+" of another account", was, now) {
			was = now
		}
	}
}

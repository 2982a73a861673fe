package admin_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/fault"
)

const words = "some other words"

// want fails unless err has exactly the fault FIELD: CODE, or with "" is nil.
func want(t *testing.T, what string, err error, faults string) {
	t.Helper()
	got := ""
	if l := fault.Of(err); l != nil {
		got = l.Error()
	} else if err != nil {
		got = err.Error()
	}
	if got != faults {
		t.Errorf("%s: %q, want %q", what, got, faults)
	}
}

func TestAddAccountRefusals(t *testing.T) {
	r := admintest.New(t)
	add := func(name, authority, password string) error {
		return r.AddAccount(t.Context(), admintest.Operator, admin.AccountInput{Name: name, Authority: authority, Password: password})
	}
	want(t, "anna", add(" Anna ", "view", words), "")
	for _, x := range [][4]string{
		{"", "view", words, "name: required"},
		{"admin", "view", words, "name: account-reserved"},
		{"RECOVER", "view", words, "name: account-reserved"},
		{"anna", "view", words, "name: account-exists"},
		{"9", "view", words, "name: account-name"},
		{"a b", "view", words, "name: account-name"},
		{"$(reboot)", "view", words, "name: account-name"},
		{"../x", "view", words, "name: account-name"},
		{"b", "", words, "authority: required"},
		{"b", "root", words, "authority: choice"},
		{"b", "view", "", "password: required"},
		{"b", "view", "short", "password: password-short"},
		{"b", "view", strings.Repeat("long ", 60), "password: password-long"},
		{"b", "view", "aaaaaaaaaaaaaaaa", "password: password-simple"},
		{"b", "view", "administrator1", "password: password-guessable"},
		{"b", "view", "some\x00other words", "password: password-text"},
		{"a-long-enough-name", "view", "A-Long-Enough-Name", "password: password-name"},
		{"", "", "", "name: required; authority: required; password: required"},
	} {
		want(t, strings.Join(x[:3], "/"), add(x[0], x[1], x[2]), x[3])
	}
	list, err := r.Accounts(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "admin" || list[1].Name != "anna" || !list[1].MustChange || list[1].Authority != account.View {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAccounts(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "operate", Password: words}), "")
	a, stamp, err := r.Login(ctx, "anna", words, "")
	if err != nil || !a.MustChange || a.Authority != account.Operate {
		t.Fatalf("%+v, %v", a, err)
	}
	anna := admin.Actor{Name: "anna", Authority: account.Operate, From: "ttyS0", Via: "serial"}
	changed := func(what string) {
		t.Helper()
		_, now, err := r.Stamp("anna")
		if err != nil || now == stamp {
			t.Errorf("%s: the stamp is the same, %v", what, err)
		}
		stamp = now
	}
	change := func(current, next, confirm string) error {
		return r.ChangePassword(ctx, anna, admin.PasswordInput{Current: current, New: next, Confirm: confirm})
	}
	want(t, "nothing", change("", "", ""), "current: required; new: required")
	want(t, "wrong", change("x", "yet other words", "yet other words"), "current: password-wrong")
	want(t, "differs", change(words, "yet other words", "yet other word"), "confirm: password-differs")
	want(t, "same", change(words, words, words), "new: password-unchanged")
	want(t, "good", change(words, "yet other words", "yet other words"), "")
	changed("password")
	if a, _, _ := r.Stamp("anna"); a.MustChange {
		t.Error("must change after the change")
	}
	// The last who may operate is admin, and nobody takes away his own.
	want(t, "self", r.RemoveAccount(ctx, anna, "anna"), "name: account-self")
	want(t, "self", r.SetAuthority(ctx, anna, "anna", "view"), "name: account-self")
	want(t, "admin", r.RemoveAccount(ctx, anna, "admin"), "name: account-admin")
	want(t, "admin", r.SetAuthority(ctx, anna, "admin", "view"), "name: account-admin")
	want(t, "own", r.ResetPassword(ctx, anna, "anna", words), "name: account-own-password")
	want(t, "short", r.ResetPassword(ctx, who, "anna", "x"), "password: password-short")
	want(t, "authority", r.SetAuthority(ctx, who, "anna", "x"), "authority: choice")
	for what, err := range map[string]error{
		"reset": r.ResetPassword(ctx, who, "nobody", words), "remove": r.RemoveAccount(ctx, who, "nobody"),
		"authority": r.SetAuthority(ctx, who, "nobody", "view"), "second factor": r.RemoveTOTP(ctx, who, "nobody"), "token": r.RemoveToken(ctx, who, "x"),
	} {
		if !errors.Is(err, admin.ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", what, err)
		}
	}
	want(t, "view", r.SetAuthority(ctx, who, "anna", "view"), "")
	changed("authority")
	want(t, "reset", r.ResetPassword(ctx, who, "anna", "the fifth password"), "")
	changed("reset")
	if a, _, err := r.Login(ctx, "anna", "the fifth password", ""); err != nil || !a.MustChange {
		t.Errorf("%+v, %v", a, err)
	}
	// Another operator may reset admin's.
	want(t, "admin's", r.ResetPassword(ctx, anna, "admin", "the sixth password"), "")
	if a, _, err := r.Login(ctx, "admin", "the sixth password", ""); err != nil || !a.MustChange || a.Generated {
		t.Errorf("%+v, %v", a, err)
	}
	want(t, "remove", r.RemoveAccount(ctx, who, "anna"), "")
	if _, _, err := r.Stamp("anna"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want that she is gone", err)
	}
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "view", Password: "the fifth password"}), "")
	changed("another of the name")
	logs, _ := os.ReadFile(filepath.Join(r.Dir, "audit.jsonl"))
	for _, secret := range []string{words, "yet other", "fifth", "sixth", "argon2"} {
		if strings.Contains(string(logs)+r.Logs.String(), secret) {
			t.Errorf("the logs tell %q", secret)
		}
	}
}

func TestManyAccounts(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	hash := "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"
	var list []string
	for i := range account.MaxAccounts {
		list = append(list, `{"name":"u`+string(rune('a'+i/26))+string(rune('a'+i%26))+`","authority":"view","hash":"`+hash+`"}`)
	}
	path := filepath.Join(r.Dir, "accounts.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"accounts":[`+strings.Join(list, ",")+`]}`), 0o660); err != nil {
		t.Fatal(err)
	}
	err := r.AddAccount(ctx, admintest.Operator, admin.AccountInput{Name: "z", Authority: "view", Password: words})
	want(t, "one too many", err, "name: many")
	if _, err := r.BeginTOTP(ctx, admintest.Operator); err != nil { // admin's record has room
		t.Error(err)
	}
}

func TestSecondFactor(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cfg := r.Config
	cfg.Now = func() time.Time { return now }
	a := admin.New(cfg)
	code := func(secret string) string {
		t.Helper()
		c, err := account.Code(secret, now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	login := func(code string) error {
		_, _, err := a.Login(ctx, "admin", admintest.Password, code)
		return err
	}
	_, err := a.ConfirmTOTP(ctx, who, "123456")
	want(t, "not begun", err, "code: totp-not-begun")
	first, err := a.BeginTOTP(ctx, who)
	if err != nil || !strings.HasPrefix(first.URI, "otpauth://totp/Parley%20parley:admin?") {
		t.Fatalf("%+v, %v", first, err)
	}
	setup, err := a.BeginTOTP(ctx, who)
	if err != nil || setup.Secret == first.Secret {
		t.Fatal(err)
	}
	_, err = a.ConfirmTOTP(ctx, who, code(first.Secret))
	want(t, "of the first", err, "code: totp-wrong")
	if err := login(""); err != nil {
		t.Errorf("before it is on: %v", err)
	}
	now = now.Add(time.Hour)
	_, err = a.ConfirmTOTP(ctx, who, code(setup.Secret))
	want(t, "too late", err, "code: totp-not-begun")
	if setup, err = a.BeginTOTP(ctx, who); err != nil {
		t.Fatal(err)
	}
	_, before, _ := a.Stamp("admin")
	codes, err := a.ConfirmTOTP(ctx, who, code(setup.Secret))
	if err != nil || len(codes) != account.RecoveryCodes {
		t.Fatalf("%q, %v", codes, err)
	}
	if acc, stamp, _ := a.Stamp("admin"); stamp == before || !acc.TOTP {
		t.Error("the second factor does not change the stamp")
	}
	for _, c := range []string{"", "000000", code(setup.Secret), "abcde-abcde"} { // the third was used to confirm
		if err := login(c); !errors.Is(err, admin.ErrCode) {
			t.Errorf("%q: %v, want ErrCode", c, err)
		}
	}
	if _, _, err := a.Login(ctx, "admin", "wrong", code(setup.Secret)); !errors.Is(err, admin.ErrWrong) {
		t.Errorf("a wrong password: %v, want ErrWrong", err)
	}
	now = now.Add(time.Minute)
	other := admin.New(cfg) // the other console
	if err := login(code(setup.Secret)); err != nil {
		t.Error(err)
	}
	if _, _, err := other.Login(ctx, "admin", admintest.Password, code(setup.Secret)); !errors.Is(err, admin.ErrCode) {
		t.Errorf("the code again at the other console: %v, want ErrCode", err)
	}
	if err := login(codes[3]); err != nil {
		t.Error(err)
	}
	if err := login(codes[3]); !errors.Is(err, admin.ErrCode) {
		t.Errorf("a recovery code again: %v, want ErrCode", err)
	}
	files := snapshot(t, r.Dir, r.ConnectorDir)
	for _, c := range codes {
		if strings.Contains(files["accounts.json"], c) || strings.Contains(r.Logs.String(), c) {
			t.Error("a recovery code is kept as it is")
		}
	}
	// The disk fails: a code is good, once.
	now = now.Add(time.Minute)
	end := failing("rename")
	err1, err2 := login(code(setup.Secret)), login(code(setup.Secret))
	end()
	if err1 != nil || !errors.Is(err2, admin.ErrCode) {
		t.Errorf("with a broken disk: %v, then %v, want it once", err1, err2)
	}
	if err := login(code(setup.Secret)); !errors.Is(err, admin.ErrCode) {
		t.Errorf("when the disk is well again: %v, want ErrCode", err)
	}
	want(t, "remove", a.RemoveTOTP(ctx, who, "admin"), "")
	if err := login(""); err != nil {
		t.Error(err)
	}
}

// A damaged file locks out everybody but admin, who is told.
func TestDamagedAccounts(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "view", Password: words}), "")
	path := filepath.Join(r.Dir, "accounts.json")
	if err := os.WriteFile(path, []byte("{"), 0o660); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Login(ctx, "admin", admintest.Password, ""); err != nil {
		t.Errorf("admin: %v", err)
	}
	if _, _, err := r.Login(ctx, "anna", words, ""); !errors.Is(err, admin.ErrWrong) {
		t.Errorf("anna: %v, want ErrWrong", err)
	}
	told := func() bool {
		list, err := r.Notices(ctx)
		return err == nil && slices.ContainsFunc(list, func(s string) bool { return strings.HasPrefix(s, "accounts-damaged 20") })
	}
	if !told() {
		t.Error("no notice while it is damaged")
	}
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "view", Password: words}), "")
	if b, err := os.ReadFile(path + ".damaged"); err != nil || string(b) != "{" {
		t.Errorf("kept %q, %v", b, err)
	}
	if !told() {
		t.Error("no notice afterwards")
	}
	want(t, "seen", r.SeenNotices(ctx, who), "")
	if told() {
		t.Error("a notice that was seen is told again")
	}
}

func TestRecoverPassword(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	who := admin.Actor{Name: "console", Authority: account.Operate, From: "tty1", Via: "screen"}
	setup, err := r.BeginTOTP(ctx, admintest.Operator)
	if err != nil {
		t.Fatal(err)
	}
	code, _ := account.Code(setup.Secret, time.Now())
	if _, err := r.ConfirmTOTP(ctx, admintest.Operator, code); err != nil {
		t.Fatal(err)
	}
	if err := r.RecoverPassword(ctx, admintest.Operator, words); !errors.Is(err, admin.ErrDenied) {
		t.Errorf("over the web: %v, want ErrDenied", err)
	}
	want(t, "short", r.RecoverPassword(ctx, who, "x"), "password: password-short")
	want(t, "good", r.RecoverPassword(ctx, who, words), "")
	if a, _, err := r.Login(ctx, "admin", words, ""); err != nil || a.MustChange || a.TOTP {
		t.Errorf("%+v, %v", a, err)
	}
	list, err := r.Notices(ctx)
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0], admin.NoticeRecovered+" 20") {
		t.Errorf("notices %q, %v", list, err)
	}
	if e, err := r.Audit(ctx, 1); err != nil || len(e) != 1 || e[0].What != "password.recovered" || e[0].From != "tty1" || e[0].Error != "" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestTokens(t *testing.T) {
	r := admintest.New(t)
	ctx, who := t.Context(), admintest.Operator
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "operate", Password: words}), "")
	anna := admin.Actor{Name: "anna", Authority: account.Operate, Via: "web"}
	own := func(current, next string) {
		t.Helper()
		want(t, "own password", r.ChangePassword(ctx, anna, admin.PasswordInput{Current: current, New: next, Confirm: next}), "")
	}
	own(words, words+" of anna")
	for faults, in := range map[string]admin.TokenInput{
		"title: required; authority: required": {},
		"title: long":                          {Title: strings.Repeat("ж", 65), Authority: "view"},
		"title: control-character":             {Title: "a\x1b[2J", Authority: "view"},
		"authority: choice":                    {Title: "x", Authority: "x"},
		"days: number":                         {Title: "x", Authority: "view", Days: "0"},
	} {
		_, _, err := r.AddToken(ctx, who, in)
		want(t, faults, err, faults)
	}
	_, _, err := r.AddToken(ctx, admin.Actor{Name: "token 00112233", Authority: account.Operate, Via: "api"}, admin.TokenInput{Title: "x", Authority: "view"})
	want(t, "by a token", err, "token-by-token")
	tok, secret, err := r.AddToken(ctx, anna, admin.TokenInput{Title: "backup", Authority: "operate", Days: "30"})
	if err != nil || tok.By != "anna" || tok.Expires.IsZero() || strings.Contains(snapshot(t, r.Dir, r.ConnectorDir)["tokens.json"], secret) {
		t.Fatalf("%+v, %v", tok, err)
	}
	a, err := r.TokenActor(secret)
	if err != nil || a.Name != "token "+tok.ID || a.Authority != account.Operate {
		t.Errorf("%+v, %v", a, err)
	}
	for _, s := range []string{"", "parley_", secret[:len(secret)-1], secret + "x", strings.ToUpper(secret)} {
		if _, err := r.TokenActor(s); !errors.Is(err, admin.ErrUnknown) {
			t.Errorf("%q: %v, want ErrUnknown", s, err)
		}
	}
	r.Close() // what is written lazily
	list, err := admin.New(r.Config).Tokens(ctx)
	if err != nil || len(list) != 1 || time.Since(list[0].Used) > 2*time.Hour || list[0].Used.Minute() != 0 {
		t.Errorf("%+v, %v: want the hour of the use", list, err)
	}
	// It rests while she must change a password that was reset.
	want(t, "reset", r.ResetPassword(ctx, who, "anna", words), "")
	if _, err := r.TokenActor(secret); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want that it rests", err)
	}
	own(words, words+" of anna")
	// It may do what anna may.
	want(t, "view", r.SetAuthority(ctx, who, "anna", "view"), "")
	if a, err := r.TokenActor(secret); err != nil || a.Authority != account.View {
		t.Errorf("%+v, %v, want no more than its maker may", a, err)
	}
	want(t, "remove", r.RemoveAccount(ctx, who, "anna"), "")
	want(t, "add", r.AddAccount(ctx, who, admin.AccountInput{Name: "anna", Authority: "operate", Password: words}), "")
	if _, err := r.TokenActor(secret); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v: the token of one who was removed counts for the next of his name", err)
	}
	tok, secret, err = r.AddToken(ctx, who, admin.TokenInput{Title: "x", Authority: "view"})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "end", r.RemoveToken(ctx, who, tok.ID), "")
	if _, err := r.TokenActor(secret); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v, want that it has ended", err)
	}
}

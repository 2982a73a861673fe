package perm

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/control"
)

var fault = errors.New("bad sector")

func ladder(t *testing.T, f *Fake) *Perm {
	t.Helper()
	p := New(f, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if p.Writable() || p.Status().State != control.PermMissing {
		t.Error("it stands somewhere before Up")
	}
	p.Up()
	return p
}

func want(t *testing.T, p *Perm, state control.PermState, words ...string) {
	t.Helper()
	st := p.Status()
	if st.State != state || p.Writable() != (state == control.PermReadWrite) {
		t.Errorf("%s, writable %v; want %s", st.State, p.Writable(), state)
	}
	if (st.Message == "") != (len(words) == 0) {
		t.Errorf("message %q, want one about %q", st.Message, words)
	}
	for _, w := range words {
		if !strings.Contains(st.Message, w) {
			t.Errorf("message %q does not say %q", st.Message, w)
		}
	}
}

func TestLadder(t *testing.T) {
	size := Usage{Size: 1000, Free: 600}
	for name, x := range map[string]struct {
		fake  Fake
		state control.PermState
		mode  Mode
		words []string
	}{
		"read-write": {Fake{}, control.PermReadWrite, ReadWrite, nil},
		"salvage":    {Fake{ReadWriteErr: fault}, control.PermReadOnly, Salvage, []string{"bad sector", "read-only", "nothing is kept", "repair retry", "repair format!"}},
		"stand-in":   {Fake{ReadWriteErr: fault, SalvageErr: fault}, control.PermMissing, StandIn, []string{"bad sector", "RAM disk", "nothing is kept", `"repair format"`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := x.fake
			f.State = size
			p := ladder(t, &f)
			want(t, p, x.state, x.words...)
			if f.Mounted == nil || *f.Mounted != x.mode {
				t.Errorf("mounted %v, want %v", f.Mounted, x.mode)
			}
			st := p.Status()
			if known := x.state != control.PermMissing; (st.Size == 1000 && st.Free == 600) != known {
				t.Errorf("size %d, free %d: the RAM disk's are nobody's concern, the others are", st.Size, st.Free)
			}
			if err := p.Down(); err != nil || f.Unmounts != 1 {
				t.Errorf("%v, %d unmounts", err, f.Unmounts)
			}
		})
	}
	f := &Fake{ReadWriteErr: fault, SalvageErr: fault, StandInErr: errors.New("no memory")}
	want(t, ladder(t, f), control.PermMissing, "bad sector", "not even that", "no memory")
}

func TestNote(t *testing.T) {
	p := ladder(t, &Fake{})
	p.Note("the role file is bad")
	if got := p.Status().Message; got != "the role file is bad" {
		t.Errorf("message %q", got)
	}
	p.Note("")
	want(t, p, control.PermReadWrite)
	p = ladder(t, &Fake{ReadWriteErr: fault})
	p.Note("the role file is bad")
	want(t, p, control.PermReadOnly, "bad sector", "; the role file is bad")
}

func code(t *testing.T, err error, want control.Code, words ...string) {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("%v: want a refusal with the code %s", err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("%q does not say %q", e.Message, w)
		}
	}
}

func TestRepairRetry(t *testing.T) {
	f := &Fake{ReadWriteErr: fault}
	p := ladder(t, f)
	changed, err := p.Repair(control.RepairRetry)
	code(t, err, control.CodeFailed, "bad sector")
	if !changed || f.Unmounts != 1 {
		t.Errorf("changed %v, %d unmounts: it was mounted anew", changed, f.Unmounts)
	}
	want(t, p, control.PermReadOnly, "bad sector")
	f.ReadWriteErr = nil
	if changed, err := p.Repair(control.RepairRetry + Confirmed); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
	want(t, p, control.PermReadWrite)
	changed, err = p.Repair(control.RepairRetry)
	code(t, err, control.CodeState, "nothing to repair")
	changed2, err := p.Repair(control.RepairFormat + Confirmed)
	code(t, err, control.CodeState, "nothing to repair")
	if changed || changed2 || f.Formats != 0 || f.Unmounts != 2 {
		t.Errorf("a healthy /perm was touched: %+v", f)
	}
}

func TestRepairFormat(t *testing.T) {
	// Nothing can be read: one word is enough.
	f := &Fake{ReadWriteErr: fault, SalvageErr: fault}
	p := ladder(t, f)
	if changed, err := p.Repair(control.RepairFormat); !changed || err != nil || f.Formats != 1 {
		t.Errorf("%v, %v, %d formats", changed, err, f.Formats)
	}
	want(t, p, control.PermReadWrite)
	// There are files: only with the confirmation.
	f = &Fake{ReadWriteErr: fault}
	p = ladder(t, f)
	changed, err := p.Repair(control.RepairFormat)
	code(t, err, control.CodeState, "would be lost", `"format!"`)
	if changed || f.Formats != 0 || f.Unmounts != 0 {
		t.Errorf("touched without the confirmation: %+v", f)
	}
	if changed, err := p.Repair(control.RepairFormat + Confirmed); !changed || err != nil || f.Formats != 1 {
		t.Errorf("%v, %v, %d formats", changed, err, f.Formats)
	}
	want(t, p, control.PermReadWrite)
	// A format that fails leaves the rung that there was.
	f = &Fake{ReadWriteErr: fault, FormatErr: errors.New("disk is gone")}
	p = ladder(t, f)
	changed, err = p.Repair(control.RepairFormat + Confirmed)
	code(t, err, control.CodeFailed, "format: disk is gone")
	if !changed {
		t.Error("it was mounted anew and nobody is told")
	}
	want(t, p, control.PermReadOnly, "bad sector")
}

// The kernel made it read-only a moment ago and nobody has looked since: the
// files are there all the same, and a format needs the confirmation.
func TestRepairSeesWhatTheKernelDid(t *testing.T) {
	f := &Fake{}
	p := ladder(t, f)
	f.State.ReadOnly = true
	_, err := p.Repair(control.RepairFormat)
	code(t, err, control.CodeState, "would be lost")
	if f.Formats != 0 {
		t.Error("readable files were formatted away without a confirmation")
	}
	want(t, p, control.PermReadOnly, "made it read-only")
}

func TestRepairRefuses(t *testing.T) {
	f := &Fake{ReadWriteErr: fault}
	p := ladder(t, f)
	for _, step := range []control.Repair{"", "!", "fsck", "format!!", "Format", " retry"} {
		changed, err := p.Repair(step)
		code(t, err, control.CodeInvalid, string(step), "retry", "format")
		if changed || f.Unmounts != 0 {
			t.Errorf("%q: touched", step)
		}
	}
	f.UnmountErr = errors.New("device or resource busy")
	changed, err := p.Repair(control.RepairRetry)
	code(t, err, control.CodeFailed, "in use", "busy")
	if changed || f.Mounted == nil {
		t.Errorf("changed %v, mounted %v", changed, f.Mounted)
	}
	want(t, p, control.PermReadOnly, "bad sector")
}

func TestCheck(t *testing.T) {
	f := &Fake{State: Usage{Size: 10, Free: 5}}
	p := ladder(t, f)
	p.Check()
	want(t, p, control.PermReadWrite)
	f.State = Usage{Size: 10, Free: 4, ReadOnly: true}
	p.Check()
	want(t, p, control.PermReadOnly, "the kernel found the file system damaged")
	if st := p.Status(); st.Free != 4 {
		t.Errorf("free %d, want the newest", st.Free)
	}
	// It does not climb by itself.
	f.State.ReadOnly = false
	p.Check()
	want(t, p, control.PermReadOnly, "the kernel found")
}

func TestGrow(t *testing.T) {
	f := &Fake{Shorter: true}
	p := ladder(t, f)
	f.State.Size = 77
	p.Grow()
	if f.Shorter || p.Status().Size != 77 {
		t.Errorf("%+v, size %d", f, p.Status().Size)
	}
	f.GrowErr = fault
	p.Grow()
	want(t, p, control.PermReadWrite) // it works as before
	f = &Fake{ReadWriteErr: fault, Shorter: true}
	ladder(t, f).Grow()
	if !f.Shorter {
		t.Error("a damaged file system was grown")
	}
}

func TestDown(t *testing.T) {
	f := &Fake{UnmountErr: errors.New("busy")}
	p := ladder(t, f)
	if err := p.Down(); err == nil || !f.State.ReadOnly {
		t.Errorf("%v, read-only %v: what is in use has to be made read-only", err, f.State.ReadOnly)
	}
}

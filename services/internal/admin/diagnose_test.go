package admin_test

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/fault"
)

func TestDiagnose(t *testing.T) {
	r := admintest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var lines []string
	run := func(who admin.Actor, in admin.DiagnoseInput) error {
		lines = nil
		return r.Diagnose(t.Context(), who, in, func(s string) error { lines = append(lines, s); return nil })
	}
	in := admin.DiagnoseInput{Tool: "port", Host: "127.0.0.1", Port: port}
	if err := run(admintest.Viewer, in); !errors.Is(err, admin.ErrDenied) || lines != nil {
		t.Errorf("%v, %q", err, lines)
	}
	if err := run(admintest.Operator, in); err != nil || len(lines) != 1 || !strings.Contains(lines[0], "is open") {
		t.Errorf("%v, %q", err, lines)
	}
	if err := run(admintest.Operator, admin.DiagnoseInput{Tool: "port", Host: "a b"}); !fault.Of(err).Has("host") || !fault.Of(err).Has("port") {
		t.Errorf("%v", err)
	}
	list, err := r.Audit(t.Context(), 10)
	if err != nil || len(list) < 2 || list[0].What != "diagnose" || list[0].Detail != "port 127.0.0.1 "+port {
		t.Errorf("%+v, %v", list, err)
	}
}

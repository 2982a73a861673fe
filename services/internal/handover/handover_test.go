package handover

import (
	"errors"
	"net"
	"testing"
)

// A connection comes out as it was put in; after the end it is closed.
func TestListener(t *testing.T) {
	l := New(&net.TCPAddr{Port: 443})
	one, other := net.Pipe()
	defer other.Close()
	go l.Put(one)
	if c, err := l.Accept(); err != nil || c != one {
		t.Fatal(c, err)
	}
	if l.Addr().String() != ":443" {
		t.Error(l.Addr())
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	l.Put(one)
	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that nobody takes is open")
	}
}

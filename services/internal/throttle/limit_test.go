package throttle

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLimit(inner, Bounds{All: 3, Peer: 2, Four: 32, Six: 64})
	defer l.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	dial()
	first := <-accepted
	<-accepted
	// The third is closed, and those before it stand.
	third := dial()
	if err := third.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := third.Read(make([]byte, 1)); err == nil || err != io.EOF && !isReset(err) {
		t.Errorf("the third: %v, want that it is closed", err)
	}
	if l.Len() != 2 {
		t.Errorf("%d stand", l.Len())
	}
	if got := l.Refused(); got != [2]uint64{0, 1} {
		t.Errorf("refused: %v", got)
	}
	// Room is made once, however often one is closed.
	first.Close()
	first.Close()
	dial()
	<-accepted
	if l.Len() != 2 {
		t.Errorf("%d stand", l.Len())
	}
}

func isReset(err error) bool {
	op, ok := err.(*net.OpError)
	return ok && !op.Timeout()
}

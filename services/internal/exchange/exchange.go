// Package exchange is one question and its answer on a unix socket, in JSON, for
// the processes of named users alone, whom the kernel vouches for (SO_PEERCRED).
//
// An exchange is one connection: who asks writes a value and shuts its half, who
// answers writes a value and closes. They are served one after the other, Timeout
// each, so that what is asked must be answered at once.
package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout is for a whole exchange.
const Timeout = 5 * time.Second

// Server answers.
type Server[Q, A any] struct {
	Path    string   // of the socket; whose folder gives it its group
	Readers []uint32 // users who are answered; others are closed without a word
	Limit   int      // bytes of a question
	// Answer answers; err is what is wrong with the question, and never quotes it.
	Answer func(ctx context.Context, question Q, err error) A
	Log    *slog.Logger
}

// Run answers until ctx ends; it returns nil then.
func (s Server[Q, A]) Run(ctx context.Context) error {
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Path, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := os.Chmod(s.Path, 0o660); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("socket %s: %w", s.Path, err)
		}
		s.serve(ctx, c)
		c.Close()
	}
}

func (s Server[Q, A]) serve(ctx context.Context, c *net.UnixConn) {
	uid, err := User(c)
	if err != nil || !slices.Contains(s.Readers, uid) {
		s.Log.Warn("a process of another user asked, and was not answered", "socket", s.Path, "user", uid, "error", err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(Timeout))
	b, err := io.ReadAll(io.LimitReader(c, int64(s.Limit)+1))
	var q Q
	if err == nil {
		q, err = Parse[Q](b, s.Limit)
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	a := s.Answer(ctx, q, err)
	cancel()
	_ = json.NewEncoder(c).Encode(a) // who went away gets none
}

// Parse reads a question of at most limit bytes, strictly. Errors do not quote
// it: it may hold a secret.
func Parse[Q any](b []byte, limit int) (Q, error) {
	var q, none Q
	if len(b) > limit {
		return none, fmt.Errorf("a request of more than %d bytes", limit)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(&q) != nil {
		return none, errors.New("a request that cannot be read")
	}
	return q, nil
}

// User is whom the other end of c belongs to.
func User(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}

// Ask asks on the socket path, and reads an answer of at most limit bytes. Its
// errors do not quote the answer, which may hold a secret.
func Ask[A any](ctx context.Context, path string, question any, limit int) (A, error) {
	var none A
	ctx, cancel := context.WithTimeout(ctx, 2*Timeout)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return none, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return none, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	// Who is refused may see the end before he has written: the answer tells.
	if _, err := conn.Write(body); err == nil {
		_ = conn.(*net.UnixConn).CloseWrite()
	}
	b, err := io.ReadAll(io.LimitReader(conn, int64(limit)+1))
	if err != nil {
		return none, err
	}
	return ParseAnswer[A](b, limit)
}

// ParseAnswer reads an answer of at most limit bytes. Its errors do not quote it.
func ParseAnswer[A any](b []byte, limit int) (A, error) {
	var a, none A
	switch {
	case len(b) == 0:
		return none, errors.New("it did not answer")
	case len(b) > limit:
		return none, fmt.Errorf("an answer of more than %d bytes", limit)
	}
	if json.Unmarshal(b, &a) != nil {
		return none, errors.New("an answer that cannot be read")
	}
	return a, nil
}

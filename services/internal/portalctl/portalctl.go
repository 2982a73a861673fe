// Package portalctl is what the appliance's consoles ask of a portal that is a
// service of it: where it is, a link for its first operator, another certificate.
// Whoever has the link becomes the operator, so it is in no file and in no log: it
// is made when it is asked for. The consoles' users are answered, whom the kernel
// vouches for (SO_PEERCRED), and nobody else.
//
// An exchange is one connection to a unix socket: the console writes a Request in
// JSON and shuts its half, the portal writes an Answer and closes. They are served
// one after the other, Timeout each.
package portalctl

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
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
)

// Socket is where the portal of an appliance answers.
var Socket = filepath.Join(layout.RunDir, "portal", "setup.sock")

// NoOperator is the service's detail while nobody operates the portal.
const NoOperator = "no operator yet"

// Timeout is for a whole exchange.
const Timeout = 5 * time.Second

const (
	maxRequest = 160 << 10 // bytes: a PEM, as JSON spells it
	maxAnswer  = 4 << 10
)

// Op is what is asked.
type Op string

// The operations. Those on the certificate are kept, and answered before the
// portal starts anew with it.
const (
	OpShow  Op = "show"  // where it is; makes a link
	OpSelf  Op = "self"  // a certificate of the portal's own root
	OpACME  Op = "acme"  // of Let's Encrypt
	OpFiles Op = "files" // one that was brought
)

// Request is what the console says.
type Request struct {
	Op    Op     `json:"op"`
	Email string `json:"email,omitempty"` // of OpACME, for the authority's warnings
	PEM   string `json:"pem,omitempty"`   // of OpFiles: the chain and its key
}

// Answer is what the portal says.
type Answer struct {
	URL     string  `json:"url"`     // of the portal; "" while it has none
	Link    string  `json:"link"`    // of OpShow, for the first operator; "" when there is one
	TLS     Op      `json:"tls"`     // where the certificate is from
	Waits   Wait    `json:"waits"`   // for what, when it has no URL yet; "" otherwise
	Problem Problem `json:"problem"` // what is wrong with the request; "" is nothing
	Error   string  `json:"error"`   // why there is no answer
}

// Wait is what a portal waits for.
type Wait string

// What there is to wait for.
const (
	WaitStart   Wait = "start"   // it opens its database
	WaitAddress Wait = "address" // the machine has none
)

// Problem is what is wrong with a request about the certificate.
type Problem string

// The problems.
const (
	NoName  Problem = "name"  // the machine has no whole host name
	NoEmail Problem = "email" // it is none
	NoPair  Problem = "pem"   // no certificate with its key
	Foreign Problem = "host"  // it is not for the portal's name
	Expired Problem = "dates" // its time is over or has not begun
)

// Serve answers on the socket path until ctx ends, to processes of the readers;
// others are closed without a word.
func Serve(ctx context.Context, path string, readers []uint32, answer func(context.Context, Request) Answer, log *slog.Logger) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	// The folder gives the socket its group, the consoles'.
	if err := os.Chmod(path, 0o660); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("portal's socket: %w", err)
		}
		exchange(ctx, c, readers, answer, log)
		c.Close()
	}
}

func exchange(ctx context.Context, c *net.UnixConn, readers []uint32, answer func(context.Context, Request) Answer, log *slog.Logger) {
	uid, err := user(c)
	if err != nil || !slices.Contains(readers, uid) {
		log.Warn("somebody else than a console asked the portal", "user", uid, "error", err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(Timeout))
	b, err := io.ReadAll(io.LimitReader(c, maxRequest+1))
	var req Request
	if err == nil {
		req, err = ParseRequest(b)
	}
	a := Answer{}
	if err != nil {
		a.Error = err.Error()
	} else {
		ctx, cancel := context.WithTimeout(ctx, Timeout)
		a = answer(ctx, req)
		cancel()
	}
	log.Info("a console asked the portal", "user", uid, "op", string(req.Op), "link", a.Link != "", "problem", string(a.Problem), "error", a.Error)
	_ = json.NewEncoder(c).Encode(a) // who went away gets none
}

// ParseRequest reads a Request. Errors do not quote it: it may hold a key.
func ParseRequest(b []byte) (Request, error) {
	if len(b) > maxRequest {
		return Request{}, fmt.Errorf("a request of more than %d bytes", maxRequest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var r Request
	if d.Decode(&r) != nil {
		return Request{}, errors.New("a request that cannot be read")
	}
	switch r.Op {
	case OpShow, OpSelf, OpACME, OpFiles:
		return r, nil
	}
	return Request{}, errors.New("op: there is no such operation")
}

// user is whom the other end of c belongs to.
func user(c *net.UnixConn) (uint32, error) {
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

// Ask asks the portal on the socket path.
func Ask(ctx context.Context, path string, req Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*Timeout)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return Answer{}, fmt.Errorf("portal: %w", err)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return Answer{}, fmt.Errorf("portal: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	// Who is refused may see the end before he has written: the answer tells.
	if _, err := conn.Write(body); err == nil {
		_ = conn.(*net.UnixConn).CloseWrite()
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return Answer{}, fmt.Errorf("portal: %w", err)
	}
	return parse(b)
}

func parse(b []byte) (Answer, error) {
	var a Answer
	if len(b) == 0 {
		return a, errors.New("portal: it did not answer")
	}
	if len(b) > maxAnswer {
		return a, fmt.Errorf("portal: an answer of more than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		// What cannot be read may hold the link.
		return Answer{}, errors.New("portal: an answer that cannot be read")
	}
	if a.Error != "" {
		return Answer{}, fmt.Errorf("portal: %s", a.Error)
	}
	return a, nil
}

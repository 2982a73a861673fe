// Package setuplink carries the first operator's link from a portal that is a
// service of the appliance to the console on the machine's serial line and
// screen. Whoever has the link becomes the operator, so it is in no file and in
// no log: it is made when it is asked for, and told to one user alone, whom the
// kernel vouches for (SO_PEERCRED).
//
// An exchange is one connection to a unix socket: the portal writes an Answer in
// JSON and closes. They are served one after the other, Timeout each.
package setuplink

import (
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
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
)

// Socket is where the portal of an appliance answers.
var Socket = filepath.Join(layout.RunDir, "portal", "setup.sock")

// Timeout is for a whole exchange.
const Timeout = 5 * time.Second

const maxAnswer = 4 << 10 // bytes

// Answer is what the portal says.
type Answer struct {
	URL   string `json:"url"`   // of the portal; "" while it has none
	Link  string `json:"link"`  // for the first operator; "" when there is one
	Waits Wait   `json:"waits"` // for what, when it has no URL yet; "" otherwise
	Error string `json:"error"` // why there is no answer
}

// Wait is what a portal waits for.
type Wait string

// What there is to wait for.
const (
	WaitStart   Wait = "start"   // it opens its database
	WaitAddress Wait = "address" // the machine has none
)

// Serve answers on the socket path until ctx ends, to processes of user reader;
// others are closed without a word.
func Serve(ctx context.Context, path string, reader uint32, answer func(context.Context) Answer, log *slog.Logger) error {
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
			return fmt.Errorf("setup link: %w", err)
		}
		uid, err := user(c)
		switch {
		case err != nil || uid != reader:
			log.Warn("the first operator's link was refused", "user", uid, "error", err)
		default:
			one, cancel := context.WithTimeout(ctx, Timeout)
			a := answer(one)
			cancel()
			log.Info("the first operator's link was asked for", "made", a.Link != "")
			_ = c.SetDeadline(time.Now().Add(Timeout))
			_ = json.NewEncoder(c).Encode(a) // who went away gets none
		}
		c.Close()
	}
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
func Ask(ctx context.Context, path string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*Timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return Answer{}, fmt.Errorf("portal: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })()
	b, err := io.ReadAll(io.LimitReader(c, maxAnswer+1))
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

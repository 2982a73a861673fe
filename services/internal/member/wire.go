package member

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// SocketName is the name of the zone controller's socket for the router of the
// same machine.
const SocketName = "zone.sock"

// Bounds of what is said on the socket: JSON objects, one in each line.
const (
	// maxDown is a line from the zone controller in bytes: a configuration and the
	// credentials, as text within text.
	maxDown = 4 << 20
	maxUp   = 64 << 10 // bytes of a line from the router
	// maxEvent is an event's name and data in bytes, as for the portal.
	maxEvent   = 16 << 10
	writeLimit = 10 * time.Second
	helloLimit = 10 * time.Second // for who connects to say who it is
)

// down is what the zone controller says: one of its fields.
type down struct {
	State *State `json:"state,omitempty"`
	Taken uint64 `json:"taken,omitempty"` // number of the last event taken
}

// up is what the router says: one of its fields.
type up struct {
	Hello *hello `json:"hello,omitempty"` // first
	Event *event `json:"event,omitempty"`
	Usage *Usage `json:"usage,omitempty"`
}

// hello says which start of the router's process it is, by which an event that
// is said twice is known.
type hello struct {
	Boot string `json:"boot"`
}

// event is numbered from 1, by one, for each start of the process.
type event struct {
	Number uint64          `json:"number"`
	At     time.Time       `json:"at"`
	Name   string          `json:"name"`
	Data   json.RawMessage `json:"data"`
}

// lines reads lines of a bounded length.
type lines struct {
	r    *bufio.Reader
	most int
	buf  []byte
}

func newLines(r io.Reader, most int) *lines { return &lines{r: bufio.NewReader(r), most: most} }

// next decodes a line into v. A line that is too long, or whose end is missing,
// is an error.
func (l *lines) next(v any) error {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > l.most {
			return fmt.Errorf("a line of more than %d bytes", l.most)
		}
		l.buf = append(l.buf, part...)
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && len(l.buf) > 0 {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	if err := json.Unmarshal(l.buf, v); err != nil {
		return fmt.Errorf("a line of %d bytes: %w", len(l.buf), err)
	}
	return nil
}

// say writes a line.
func say(c net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

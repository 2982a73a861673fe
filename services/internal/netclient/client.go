package netclient

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a Request's texts in bytes.
const (
	MaxBy = 256
	MaxID = 64
)

// ErrAway says that the network service does not answer: it is starting anew,
// or was stopped.
var ErrAway = errors.New("the network service does not answer")

// Error is a refusal in the service's own words, for people.
type Error struct {
	Op      Op
	Code    Code
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("network: %s: %s", e.Op, e.Message) }

// Client asks the network service.
type Client struct {
	Path string // of the socket
}

// Do asks and returns how the network is afterwards. An error is a fault.List
// when values of req.Config are wrong, *Error for another refusal, one that is
// ErrAway when nobody answers, and ctx's error when that ended first; what was
// asked may have happened nevertheless in the last two cases.
func (c *Client) Do(ctx context.Context, req Request) (*Status, error) {
	r, err := c.ask(ctx, req)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("network: %s: %w", req.Op, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("network: %s: %w", req.Op, err)
	case len(r.Faults) > 0:
		return nil, r.Faults
	case r.Error != "":
		return nil, &Error{req.Op, r.Code, r.Error}
	case r.Status == nil:
		return nil, fmt.Errorf("network: %s: the answer was empty", req.Op)
	}
	return r.Status, nil
}

func (c *Client) ask(ctx context.Context, req Request) (r Response, err error) {
	line, err := json.Marshal(req)
	if err != nil {
		return r, err
	}
	if len(line) >= MaxLine {
		return r, fmt.Errorf("the request has %d bytes, at most %d fit", len(line), MaxLine-1)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Path)
	if err != nil {
		return r, errors.Join(ErrAway, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// A service that refuses before it reads has answered all the same.
	_, werr := conn.Write(append(line, '\n'))
	answer, err := bufio.NewReaderSize(io.LimitReader(conn, MaxLine+1), MaxLine+1).ReadSlice('\n')
	if err != nil || len(answer) > MaxLine {
		if len(answer) > MaxLine {
			return r, fmt.Errorf("the answer has more than %d bytes", MaxLine)
		}
		return r, errors.Join(ErrAway, werr, err)
	}
	// Fields that a newer service adds do no harm.
	if err := json.Unmarshal(answer, &r); err != nil {
		return r, fmt.Errorf("answer %.200q: %w", answer, err)
	}
	return r, nil
}

// ParseRequest reads a request strictly: one JSON value, no unknown field, the
// fields that its operation takes and no others, and texts that can be shown.
// The configuration's values are not judged.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	if len(line) > MaxLine {
		return Request{}, fmt.Errorf("request: %d bytes, want at most %d", len(line), MaxLine)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("request: more than one value")
	}
	if !slices.Contains([]Op{OpStatus, OpSet, OpConfirm, OpRevert, OpSync}, r.Op) {
		return Request{}, fmt.Errorf("request: unknown operation %.40q", r.Op)
	}
	set, named := r.Op == OpSet, r.Op == OpConfirm || r.Op == OpRevert
	switch {
	case set != (r.Config != nil):
		return Request{}, fmt.Errorf("request: %s: a config belongs to set, and to nothing else", r.Op)
	case r.Hold && !set:
		return Request{}, fmt.Errorf("request: %s takes no hold", r.Op)
	case named != (r.ID != ""):
		return Request{}, fmt.Errorf("request: %s: an id belongs to confirm and revert, and to nothing else", r.Op)
	case len(r.ID) > MaxID:
		return Request{}, fmt.Errorf("request: id of %d bytes, want at most %d", len(r.ID), MaxID)
	case len(r.By) > MaxBy:
		return Request{}, fmt.Errorf("request: by of %d bytes, want at most %d", len(r.By), MaxBy)
	}
	for name, s := range map[string]string{"by": r.By, "id": r.ID} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return Request{}, fmt.Errorf("request: %s %q has characters that cannot be shown", name, s)
		}
	}
	return r, nil
}

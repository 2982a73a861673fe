package qemutest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// QMP is QEMU's monitor (QEMU Machine Protocol).
type QMP struct {
	conn net.Conn

	do      sync.Mutex // one command at a time
	answers chan qmpMessage

	mu     sync.Mutex
	events []Event
	more   chan struct{}
	ended  bool
}

// Event is what the machine did: "RESET", "SHUTDOWN", "WATCHDOG", "POWERDOWN".
type Event struct {
	Name string
	Data map[string]any
}

type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string         `json:"event"`
	Data  map[string]any `json:"data"`
}

func newQMP(c net.Conn) (*QMP, error) {
	q := &QMP{conn: c, answers: make(chan qmpMessage, 1), more: make(chan struct{})}
	go q.read()
	_, err := q.Command("qmp_capabilities", nil)
	return q, err
}

func (q *QMP) read() {
	dec := json.NewDecoder(bufio.NewReader(q.conn))
	for {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			close(q.answers)
			q.mu.Lock()
			q.ended = true
			close(q.more)
			q.mu.Unlock()
			return
		}
		switch {
		case m.Event != "":
			q.mu.Lock()
			q.events = append(q.events, Event{m.Event, m.Data})
			close(q.more)
			q.more = make(chan struct{})
			q.mu.Unlock()
		case m.Return != nil || m.Error != nil:
			q.answers <- m
		}
	}
}

// Command runs a command.
func (q *QMP) Command(name string, args map[string]any) (json.RawMessage, error) {
	q.do.Lock()
	defer q.do.Unlock()
	req := map[string]any{"execute": name}
	if args != nil {
		req["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(req); err != nil {
		return nil, fmt.Errorf("qmp %s: %w", name, err)
	}
	m, ok := <-q.answers
	if !ok {
		return nil, fmt.Errorf("qmp %s: qemu has ended", name)
	}
	if m.Error != nil {
		return nil, fmt.Errorf("qmp %s: %s: %s", name, m.Error.Class, m.Error.Desc)
	}
	return m.Return, nil
}

// Events are those seen so far.
func (q *QMP) Events() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Event(nil), q.events...)
}

// WaitEvent waits for an event of the name that is not among the first after.
func (q *QMP) WaitEvent(name string, after int, timeout time.Duration) error {
	deadline := time.After(timeout)
	for {
		q.mu.Lock()
		for _, e := range q.events[min(after, len(q.events)):] {
			if e.Name == name {
				q.mu.Unlock()
				return nil
			}
		}
		more, ended := q.more, q.ended
		q.mu.Unlock()
		if ended {
			return fmt.Errorf("qemu ended before event %s", name)
		}
		select {
		case <-more:
		case <-deadline:
			return fmt.Errorf("no event %s within %v", name, timeout)
		}
	}
}

// PowerButton presses it.
func (q *QMP) PowerButton() error {
	_, err := q.Command("system_powerdown", nil)
	return err
}

// Reset presses the reset button.
func (q *QMP) Reset() error {
	_, err := q.Command("system_reset", nil)
	return err
}

// Type presses keys of the keyboard, one after the other: a-z, 0-9, "-" and
// line breaks.
func (q *QMP) Type(text string) error {
	for _, c := range text {
		name := string(c)
		switch c {
		case '-':
			name = "minus"
		case '\n':
			name = "ret"
		}
		key := map[string]any{"type": "qcode", "data": name}
		if _, err := q.Command("send-key", map[string]any{"keys": []any{key}, "hold-time": 20}); err != nil {
			return err
		}
		// The keyboard controller has room for few keys.
		time.Sleep(60 * time.Millisecond)
	}
	return nil
}

// Screendump writes the screen's picture as PNG.
func (q *QMP) Screendump(path string) error {
	_, err := q.Command("screendump", map[string]any{"filename": path, "format": "png"})
	return err
}

package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"
)

// Parse reads a frame.
func Parse(b []byte) (Message, error) {
	var m Message
	if len(b) > MaxMessage {
		return m, fmt.Errorf("message of %d bytes, at most %d", len(b), MaxMessage)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("message: %w", err)
	}
	if d.More() {
		return m, fmt.Errorf("message: more than one JSON value")
	}
	if m.Kind == "" {
		return m, fmt.Errorf("message without a kind")
	}
	return m, nil
}

// Into decodes the body. Fields that v does not have are passed over: the other
// end may be newer.
func (m Message) Into(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("message %q: %w", m.Kind, err)
	}
	return nil
}

// Send writes a message.
func Send(ctx context.Context, ws *websocket.Conn, kind Kind, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("message %s: %w", kind, err)
	}
	b, err = json.Marshal(Message{Kind: kind, Body: b})
	if err != nil {
		return fmt.Errorf("message %s: %w", kind, err)
	}
	return ws.Write(ctx, websocket.MessageText, b)
}

// Receive reads a message.
func Receive(ctx context.Context, ws *websocket.Conn) (Message, error) {
	kind, b, err := ws.Read(ctx)
	if err != nil {
		return Message{}, err
	}
	if kind != websocket.MessageText {
		return Message{}, fmt.Errorf("a binary frame, want text")
	}
	return Parse(b)
}

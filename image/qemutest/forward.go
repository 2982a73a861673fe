package qemutest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Forward makes the web console at another of the appliance's addresses, as
// "10.0.2.20", reachable, and returns the port of 127.0.0.1. The address need
// not be there yet; QEMU asks for it by ARP when somebody connects.
func (m *Machine) Forward(guest string) (int, error) { return m.ForwardPort(guest, ConsolePort) }

// ForwardPort is Forward for another of the appliance's ports.
func (m *Machine) ForwardPort(guest string, to int) (int, error) {
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	line := fmt.Sprintf("hostfwd_add net0 tcp:127.0.0.1:%d-%s:%d", port, guest, to)
	answer, err := m.QMP.Command("human-monitor-command", map[string]any{"command-line": line})
	if err != nil {
		return 0, err
	}
	// The human monitor says what went wrong, and nothing when all is well.
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return 0, fmt.Errorf("%s: %w", line, err)
	}
	if text = strings.TrimSpace(text); text != "" {
		return 0, fmt.Errorf("%s: %s", line, text)
	}
	return port, nil
}

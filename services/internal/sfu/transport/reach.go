package transport

import (
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/pion/dtls/v2"
	"github.com/pion/ice/v2"
	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Two things are behind fields that the library does not export, and v3 gets no
// more releases: the DTLS connection, whose exporter gives the keys of SRTP
// (RFC 5764), and the ICE agent, which can restart. reachable tells at start-up
// whether they are where this file looks.

const (
	connField  = "conn"  // of webrtc.DTLSTransport
	agentField = "agent" // of webrtc.ICEGatherer
)

func reachable() error {
	return errors.Join(
		hasField[webrtc.DTLSTransport, *dtls.Conn](connField),
		hasField[webrtc.ICEGatherer, *ice.Agent](agentField),
	)
}

func hasField[S, F any](name string) error {
	s, f := reflect.TypeFor[S](), reflect.TypeFor[F]()
	field, ok := s.FieldByName(name)
	if !ok || field.Type != f {
		return fmt.Errorf("%v has no field %q of type %v: another release of the library", s, name, f)
	}
	return nil
}

// reach reads a field that reachable has checked.
func reach[F any](s any, name string) F {
	v := reflect.ValueOf(s).Elem().FieldByName(name)
	return *(*F)(unsafe.Pointer(v.UnsafeAddr()))
}

// keys exports the keys of SRTP, with ours for one side; the handshake must be
// over.
func keys(t *webrtc.DTLSTransport, server bool) (*wire.Crypt, wire.Profile, error) {
	conn := reach[*dtls.Conn](t, connField)
	if conn == nil {
		return nil, 0, errors.New("dtls: no connection")
	}
	selected, ok := conn.SelectedSRTPProtectionProfile()
	if !ok {
		return nil, 0, errors.New("dtls: no profile of SRTP was agreed")
	}
	profile := wire.Profile(selected)
	state := conn.ConnectionState()
	material, err := state.ExportKeyingMaterial(wire.KeyingLabel, nil, profile.KeyingLen())
	if err != nil {
		return nil, 0, fmt.Errorf("dtls: export of keys: %w", err)
	}
	crypt, err := wire.NewCrypt(profile, material, server)
	return crypt, profile, err
}

func agentOf(g *webrtc.ICEGatherer) (*ice.Agent, error) {
	agent := reach[*ice.Agent](g, agentField)
	if agent == nil {
		return nil, errors.New("ice: no agent")
	}
	return agent, nil
}

package netconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/fault"
)

// MaxConfigSize is the largest network.json in bytes that is read.
const MaxConfigSize = 128 << 10

// Input returns the configuration as text, for forms and terminals. The proxy's
// password is not in it.
func (c Config) Input() Input {
	in := Input{
		Hostname: c.Hostname,
		Eth0:     MasterInput{Mode: c.Eth0.Mode, Address: text(c.Eth0.Address), Gateway: text(c.Eth0.Gateway)},
		IPv6:     IPv6Input{Mode: c.IPv6.Mode, Address: text(c.IPv6.Address), Gateway: text(c.IPv6.Gateway)},
		Slave:    text(c.Slave),
	}
	if c.Eth0.MTU != 0 {
		in.Eth0.MTU = strconv.Itoa(c.Eth0.MTU)
	}
	for _, r := range c.Routes {
		in.Routes = append(in.Routes, struct {
			Destination string `json:"destination"`
			Gateway     string `json:"gateway"`
		}{text(r.Destination), text(r.Gateway)})
	}
	in.DNS.Servers, in.DNS.Search = texts(c.DNS.Servers), c.DNS.Search
	in.NTP.Servers, in.NTP.Off = c.NTP.Servers, c.NTP.Off
	in.Proxy.Host, in.Proxy.User, in.Proxy.Except = c.Proxy.Host, c.Proxy.User, c.Proxy.Except
	if c.Proxy.Port != 0 {
		in.Proxy.Port = strconv.Itoa(c.Proxy.Port)
	}
	in.Firewall.Allow = map[string][]string{}
	for name, nets := range c.Firewall.Allow {
		in.Firewall.Allow[name] = texts(nets)
	}
	return in
}

// value is an address or a network.
type value interface {
	fmt.Stringer
	IsValid() bool
}

// text returns "" for none.
func text(v value) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

func texts[T value](list []T) []string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

// Public returns the configuration without the proxy's password, for everybody
// who asks.
func (c Config) Public() Config {
	c.Proxy.PasswordSet = c.Proxy.PasswordSet || hasPassword(c.Proxy.Password)
	c.Proxy.Password = nil
	return c
}

// Keep returns the configuration as it is saved, after one that a caller sent:
// with the password of the one that was saved before when the caller had none
// and the proxy is the same.
// An empty password is the word that there is none any more.
func (c Config) Keep(saved Config) Config {
	if c.Proxy.Password == nil && c.Proxy.PasswordSet && sameProxy(c.Proxy, saved.Proxy) {
		c.Proxy.Password = saved.Proxy.Password
	}
	return c.settled()
}

// settled makes PasswordSet say what Password is.
func (c Config) settled() Config {
	if c.Proxy.PasswordSet = hasPassword(c.Proxy.Password); !c.Proxy.PasswordSet {
		c.Proxy.Password = nil
	}
	return c
}

// Check returns what is wrong with a configuration that did not come from
// Input.Config, as a fault.List, and else its canonical form: without empty
// lists of the firewall, with lower case names.
func (c Config) Check() (Config, error) {
	in := c.Input()
	in.Proxy.Password = c.Proxy.Password
	out, err := in.Config(c)
	if err != nil {
		return Config{}, err
	}
	if in.Proxy.Password == nil {
		out.Proxy.PasswordSet = c.Proxy.PasswordSet && out.Proxy.User != ""
	}
	return out, nil
}

// ParseConfig reads network.json. An unknown version or field is an error, and
// so is a value that Input.Config would not take.
func ParseConfig(b []byte) (Config, error) {
	var c Config
	if err := DecodeVersion(b, ConfigVersion, MaxConfigSize, &c); err != nil {
		return Config{}, fmt.Errorf("network configuration: %w", err)
	}
	out, err := c.Check()
	if err != nil {
		return Config{}, fmt.Errorf("network configuration: %w", err)
	}
	return out.settled(), nil
}

// Encode returns network.json. It holds the proxy's password.
func (c Config) Encode() ([]byte, error) {
	c = c.settled()
	c.Version = ConfigVersion
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("network configuration: %w", err)
	}
	return append(b, '\n'), nil
}

// LoadConfig reads the file path. Without one it returns DefaultConfig and an
// error that is fs.ErrNotExist.
func LoadConfig(path string) (Config, error) {
	b, err := ReadFile(path, MaxConfigSize)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfig(), err
	}
	if err != nil {
		return Config{}, fmt.Errorf("network configuration: %w", err)
	}
	c, err := ParseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// SaveConfig replaces the file path, durably. Its mode is 0640: it holds the
// proxy's password. A configuration that could not be read again is refused.
func SaveConfig(path string, c Config) error {
	b, err := c.Encode()
	if err != nil {
		return err
	}
	if _, err := ParseConfig(b); err != nil {
		if l := fault.Of(err); l != nil {
			return fmt.Errorf("save %s: %w", path, l)
		}
		return fmt.Errorf("save %s: %w", path, err)
	}
	return durable.WriteFile(path, b, 0o640)
}

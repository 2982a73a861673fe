package netconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// ProxyFile is the name of the file in RunDir by which the services learn of the
// site's proxy.
const ProxyFile = "proxy.json"

// ProxyPath is where services find it.
var ProxyPath = filepath.Join(RunDir, ProxyFile)

// proxyVersion is that of the file which this package knows.
const proxyVersion = 1

// proxyMode lets the services read the file that connect outwards, and not the
// folder's group, the consoles': what they may know of the password is that there
// is one.
const proxyMode fs.FileMode = 0o604

// proxyInForce is the content of the file.
type proxyInForce struct {
	Version int   `json:"version"`
	Proxy   Proxy `json:"proxy"`
}

// SaveProxy replaces the file path. It holds the proxy's password.
func SaveProxy(path string, p Proxy) error {
	b, err := json.Marshal(proxyInForce{proxyVersion, p})
	if err != nil {
		return err
	}
	return WriteFile(path, append(b, '\n'), proxyMode)
}

// Through returns what http.Transport's Proxy is: the way outwards through the
// proxy of the file path, which is read at each call. There is none where there is
// no file. A domain that is excepted excepts what is below it; the machine itself
// always is.
func Through(path string) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		b, err := ReadFile(path, MaxConfigSize)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var in proxyInForce
		if err := DecodeVersion(b, proxyVersion, MaxConfigSize, &in); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p := in.Proxy
		if p.Host == "" {
			return nil, nil
		}
		u := url.URL{Scheme: "http", Host: net.JoinHostPort(p.Host, strconv.Itoa(p.Port))}
		switch {
		case p.User != "" && p.Password != nil:
			u.User = url.UserPassword(p.User, *p.Password)
		case p.User != "":
			u.User = url.User(p.User)
		}
		c := httpproxy.Config{HTTPProxy: u.String(), HTTPSProxy: u.String(), NoProxy: strings.Join(p.Except, ",")}
		return c.ProxyFunc()(r.URL)
	}
}

// Package server runs a portal as a process: its settings, its listeners, its
// log and its figures.
package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Config is what a portal process is told, by flags and by a file of JSON.
type Config struct {
	Dir      string `json:"dir"`      // files that are no database; SQLite's too
	URL      string `json:"url"`      // that people and appliances use
	Listen   string `json:"listen"`   // address of https
	Database string `json:"database"` // sqlite:PATH or postgres://…; "": portal.db in Dir
	KeyFile  string `json:"keyFile"`  // master key; "": $CREDENTIALS_DIRECTORY/master.key, or made in Dir
	TLS      TLS    `json:"tls"`
	S3       *S3    `json:"s3"`            // of releases' files; null: the folder releases in Dir
	Metrics  string `json:"metricsListen"` // address of http for figures and health; "": none
	Private  bool   `json:"acmePrivate"`   // accounts may name authorities and name servers that are not public
	JSON     bool   `json:"jsonLog"`
	Requests bool   `json:"logRequests"`

	Version string `json:"-"`

	// What only the program that runs a portal says.
	Appliance []uint32       `json:"-"` // the consoles' users, when it is a service of the appliance
	MakeKey   bool           `json:"-"` // make the master key in KeyFile, too, for a new database
	Started   func(*Running) `json:"-"` // called when it can be reached; the first operator's link is then for the caller to ask for
}

// TLS is where the certificate comes from.
type TLS struct {
	Mode      string `json:"mode"` // self, files, acme
	Cert      string `json:"cert"` // of files: PEM
	Key       string `json:"key"`
	Directory string `json:"acmeDirectory"` // of acme; "": Let's Encrypt's
	Email     string `json:"acmeEmail"`
	Roots     string `json:"acmeRoots"` // PEM, of a directory that the system does not trust
}

// S3 is object storage for releases' files.
type S3 struct {
	Endpoint   string `json:"endpoint"` // HOST or HOST:PORT
	Bucket     string `json:"bucket"`
	Region     string `json:"region"`
	Key        string `json:"key"`
	SecretFile string `json:"secretFile"` // one line
	Plain      bool   `json:"plain"`      // http
}

// Modes of TLS.
const (
	ModeSelf  = "self"
	ModeFiles = "files"
	ModeACME  = "acme"
)

// Defaults are the settings of whoever says nothing.
func Defaults() Config {
	dir := os.Getenv("STATE_DIRECTORY") // of systemd
	if dir == "" {
		dir = "portal-data"
	}
	return Config{Dir: dir, Listen: ":8443", TLS: TLS{Mode: ModeSelf}, Metrics: "127.0.0.1:9464"}
}

const maxFile = 1 << 20

// ReadFile lays a file's settings over c.
func (c *Config) ReadFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return c.decode(path, b)
}

func (c *Config) decode(name string, b []byte) error {
	if len(b) > maxFile {
		return fmt.Errorf("%s: %d bytes, want at most %d", name, len(b), maxFile)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		at := d.InputOffset()
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case err == io.EOF:
			err = errors.New("the file is empty, want {} at least")
		case errors.Is(err, io.ErrUnexpectedEOF):
			at, err = int64(len(b)), errors.New("the file ends too early")
		case errors.As(err, &syntax):
			at = syntax.Offset
		case errors.As(err, &kind):
			at = kind.Offset
			err = fmt.Errorf("%s: is a %s, want %s", kind.Field, kind.Value, kind.Type)
		default:
			if _, field, ok := strings.Cut(err.Error(), "unknown field "); ok {
				// The decoder has read on; the name stands once, or first.
				if i := bytes.Index(b, []byte(field)); i >= 0 {
					at = int64(i)
				}
				err = fmt.Errorf("%s: there is no such setting", strings.Trim(field, `"`))
			}
		}
		return fmt.Errorf("%s: %w", position(name, b, at), err)
	}
	if rest := bytes.TrimSpace(b[d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%s: something follows the settings", position(name, b, d.InputOffset()))
	}
	return nil
}

// position is FILE:LINE:COLUMN of an offset.
func position(name string, b []byte, at int64) string {
	before := b[:min(max(at, 0), int64(len(b)))]
	return fmt.Sprintf("%s:%d:%d", name, 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n'))
}

// check completes the settings and returns the portal's address.
func (c *Config) check() (*url.URL, error) {
	if c.Dir == "" {
		return nil, errors.New("dir: is empty")
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen %q: want ADDRESS:PORT or :PORT", c.Listen)
	}
	if c.URL == "" {
		c.URL = "https://localhost"
		if port != "443" && port != "0" {
			c.URL += ":" + port
		}
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("url %q: want https://HOST or https://HOST:PORT", c.URL)
	}
	u.Path = ""
	if c.Database == "" {
		c.Database = "sqlite:" + filepath.Join(c.Dir, "portal.db")
	}
	switch c.TLS.Mode {
	case ModeSelf, ModeACME:
		if c.TLS.Cert != "" || c.TLS.Key != "" {
			return nil, fmt.Errorf("tls.cert and tls.key are for the mode %s, and the mode is %s", ModeFiles, c.TLS.Mode)
		}
	case ModeFiles:
		if c.TLS.Cert == "" || c.TLS.Key == "" {
			return nil, errors.New("tls.cert, tls.key: the mode files needs both")
		}
	default:
		return nil, fmt.Errorf("tls.mode %q, want self, files or acme", c.TLS.Mode)
	}
	if c.TLS.Mode != ModeACME && c.TLS.Directory+c.TLS.Email+c.TLS.Roots != "" {
		return nil, fmt.Errorf("tls.acmeDirectory, tls.acmeEmail and tls.acmeRoots are for the mode %s, and the mode is %s", ModeACME, c.TLS.Mode)
	}
	if c.TLS.Mode == ModeACME && (net.ParseIP(u.Hostname()) != nil || !strings.Contains(u.Hostname(), ".")) {
		return nil, fmt.Errorf("url %q: the mode acme needs a name that the outside world knows", c.URL)
	}
	if c.Metrics != "" {
		if _, _, err := net.SplitHostPort(c.Metrics); err != nil {
			return nil, fmt.Errorf("metricsListen %q: want ADDRESS:PORT", c.Metrics)
		}
	}
	return u, nil
}

package member

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// Files of the own folder. All hold secrets or what the portal told in trust, and
// are for their owner alone.
const (
	// A file of credentials is named after the token that they were got by, so that
	// keeping them and noting the token is one write.
	credentialsPrefix = "credentials-"
	configName        = "config.json"
	browsersName      = "browsers.json"
	ownZoneName       = "standalone.json"

	keptMode    = 0o600
	keptVersion = 1
	// maxConfig is for the configuration with the blanks of a readable file.
	maxConfig   = 4 * link.MaxMessage
	maxBrowsers = 64 << 10
	maxOwnZone  = 128 << 10
)

// keep is the own folder.
type keep struct {
	dir      string
	config   *statefile.File[keptConfig]
	browsers *statefile.File[request]
	own      *statefile.File[ownZone]
	log      *slog.Logger
}

// keptConfig is what the portal told last, and whom.
type keptConfig struct {
	Version   int         `json:"version"`
	Appliance string      `json:"appliance"`
	Zone      string      `json:"zone"`
	Config    link.Config `json:"config"`
}

func newKeep(dir string, log *slog.Logger) keep {
	f := statefile.New(dir)
	return keep{
		dir:      dir,
		config:   &statefile.File[keptConfig]{Folder: f, Name: configName, Mode: keptMode, Version: keptVersion, Limit: maxConfig},
		browsers: &statefile.File[request]{Folder: f, Name: browsersName, Mode: keptMode, Version: keptVersion, Limit: maxBrowsers, Check: checkRequest},
		own:      &statefile.File[ownZone]{Folder: f, Name: ownZoneName, Mode: keptMode, Version: keptVersion, Limit: maxOwnZone, Check: checkOwnZone},
		log:      log,
	}
}

// path is where the credentials are that a token got.
func (k keep) path(token string) string {
	sum := sha256.Sum256([]byte("parley enrolment\n" + token))
	return filepath.Join(k.dir, credentialsPrefix+hex.EncodeToString(sum[:8])+".json")
}

// credentials reads a file of credentials. One that is not there or cannot have
// been written is none; an error is of a file that cannot be read now.
func (k keep) credentials(path string) (link.Credentials, bool, error) {
	c, err := link.ReadCredentials(path)
	var damaged *link.DamagedError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, false, nil
	case errors.As(err, &damaged):
		k.log.Error("the enrolment is damaged: the appliance is enrolled again", "error", err)
		return c, false, nil
	case err != nil:
		return c, false, err
	}
	return c, true, nil
}

// last returns the newest credentials that can be used, whatever token they were
// got by, and their path.
func (k keep) last() (link.Credentials, string, bool) {
	var cred link.Credentials
	var path string
	var at time.Time
	for _, p := range k.paths() {
		info, err := os.Lstat(p)
		if err != nil || path != "" && !info.ModTime().After(at) {
			continue
		}
		if c, ok, err := k.credentials(p); ok && err == nil {
			cred, path, at = c, p, info.ModTime()
		}
	}
	return cred, path, path != ""
}

// paths returns those of all credentials.
func (k keep) paths() []string {
	list, err := os.ReadDir(k.dir)
	if err != nil {
		k.log.Error("own folder", "error", err)
	}
	var out []string
	for _, e := range list {
		if n := e.Name(); strings.HasPrefix(n, credentialsPrefix) && strings.HasSuffix(n, ".json") {
			out = append(out, filepath.Join(k.dir, n))
		}
	}
	return out
}

// forget deletes all credentials but those at one path; "": all, and what the
// portal told.
func (k keep) forget(but string) {
	paths := k.paths()
	if but == "" {
		paths = append(paths, k.config.Path(), k.browsers.Path())
	}
	for _, p := range paths {
		if p == but {
			continue
		}
		if err := durable.Remove(p); err != nil {
			k.log.Error("what is kept of a zone before", "error", err)
		}
	}
}

// told returns what the portal told the appliance last, or nil.
func (k keep) told(c link.Credentials) *link.Config {
	v, err := k.config.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		k.log.Error("the configuration that is kept is not used: the portal tells it anew", "error", err)
		return nil
	case v.Appliance != c.Appliance || v.Zone != c.Zone:
		return nil
	}
	return &v.Config
}

// tell keeps what the portal told.
func (k keep) tell(ctx context.Context, c link.Credentials, cfg link.Config) error {
	unlock, err := k.config.Folder.Lock(ctx)
	if err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	defer unlock()
	return k.config.Write(keptConfig{keptVersion, c.Appliance, c.Zone, cfg})
}

// forgetTold deletes what the portal told.
func (k keep) forgetTold() {
	if err := durable.Remove(k.config.Path()); err != nil {
		k.log.Error("what the portal told", "error", err)
	}
}

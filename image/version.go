package image

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Version is what an image calls itself, from git alone.
type Version struct {
	// String is a semantic version: "1.2.3" on a tag, "1.2.4-dev.7+g0123456789ab"
	// seven commits behind it, with ".modified" when files were changed or are
	// not git's (and not ignored).
	String string
	// Time is the commit's, in UTC.
	Time time.Time
}

// Unversioned stands in where there is no git history.
var Unversioned = Version{String: "0.0.0-unversioned", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}

// File is the version as it stands in the root file system: lines of key=value.
func (v Version) File() string {
	return fmt.Sprintf("version=%s\ncommit-time=%s\n", v.String, v.Time.UTC().Format(time.RFC3339))
}

var describeRE = regexp.MustCompile(`^v(\d+)\.(\d+)\.(\d+)-(\d+)-g[0-9a-f]+$`)

// GitVersion asks git in the folder.
func GitVersion(ctx context.Context, dir string) (Version, error) {
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "log.showSignature=false"}, args...)...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
		}
		return strings.TrimSpace(string(out)), nil
	}
	head, err := git("log", "-1", "--format=%H %ct")
	if err != nil {
		return Version{}, err
	}
	hash, stamp, _ := strings.Cut(head, " ")
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || len(hash) < 12 {
		return Version{}, fmt.Errorf("git log: %q is not a commit and its time", head)
	}
	// Without a tag describe fails; that is no error.
	described, _ := git("describe", "--tags", "--long", "--abbrev=12", "--match", "v[0-9]*.[0-9]*.[0-9]*")
	// Files that git does not know are compiled and embedded like all others.
	dirty, err := git("status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return Version{}, err
	}
	return Version{String: version(described, hash, dirty != ""), Time: time.Unix(sec, 0).UTC()}, nil
}

// version makes a semantic version of git's description. The commit is always
// twelve digits: git's own abbreviation grows with the clone.
func version(described, hash string, modified bool) string {
	v := "0.0.0-dev"
	exact := false
	if m := describeRE.FindStringSubmatch(described); m != nil {
		patch, _ := strconv.Atoi(m[3])
		if exact = m[4] == "0"; exact {
			v = fmt.Sprintf("%s.%s.%s", m[1], m[2], m[3])
		} else {
			v = fmt.Sprintf("%s.%s.%d-dev.%s", m[1], m[2], patch+1, m[4])
		}
	}
	if exact && !modified {
		return v
	}
	v += "+g" + hash[:12]
	if modified {
		v += ".modified"
	}
	return v
}

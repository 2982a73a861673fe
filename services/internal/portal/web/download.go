package web

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/releases"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Bounds of downloads that are under way on an instance.
const (
	maxDownloads        = 2048
	maxAccountDownloads = 256
)

// downloadPages are what an account downloads.
func (p *Portal) downloadPages() []page {
	return []page{
		{Path: "/connector/download", Section: "connector", Title: "download.title", Template: "download", Need: needAdmin, Load: func(k *call) (any, error) {
			c, err := k.p.cfg.Zones.Get(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			d := downloadData{Enabled: !c.Account.Enabled.IsZero()}
			list, err := k.p.cfg.Releases.List(k.ctx(), true)
			if err != nil || !d.Enabled {
				return d, err
			}
			for _, r := range list {
				d.Releases = append(d.Releases, k.releaseView(r))
			}
			return d, nil
		}},
	}
}

// releasePages are the operator's.
func (p *Portal) releasePages() []page {
	return []page{
		{Path: "/operator/releases", Section: "operator", Title: "releases.title", Template: "releases", Need: needOperator, Scripts: []string{"upload.js"}, Load: func(k *call) (any, error) {
			list, err := k.p.cfg.Releases.List(k.ctx(), false)
			if err != nil {
				return nil, err
			}
			d := downloadData{Names: releases.Names(), Max: releases.MaxFile}
			missing, err := k.p.cfg.Releases.Missing(k.ctx())
			for _, r := range list {
				v := k.releaseView(r)
				v.Missing = missing[r.Version]
				d.Releases = append(d.Releases, v)
			}
			return d, err
		}},
	}
}

type downloadData struct {
	Enabled  bool
	Releases []releaseView
	Names    []string // files of a release
	Max      int64    // bytes of one
}

type releaseView struct {
	releases.Release
	At       moment
	Notes    string
	Variants []variantView
	Papers   []fileView
	State    string   // "draft", "published", "withdrawn"
	Missing  []string // files whose bytes are not there
}

type variantView struct {
	Name, Title, Text string
	Files             []fileView
}

type fileView struct {
	releases.File
	Kind string // what it is for
	Size string
	Path string
}

func (k *call) releaseView(r releases.Release) releaseView {
	v := releaseView{Release: r, At: when(r.Created), Notes: r.NotesEN, State: "draft"}
	if k.words.Language() == look.Russian && r.NotesRU != "" {
		v.Notes = r.NotesRU
	}
	if !r.Published.IsZero() {
		v.State, v.At = "published", when(r.Published)
	}
	if !r.Withdrawn.IsZero() {
		v.State = "withdrawn"
	}
	view := func(f releases.File, kind string) fileView {
		return fileView{f, k.words.T("file." + kind), k.words.Bytes(f.Size), "/download/" + r.Version + "/" + f.Name}
	}
	for _, x := range releases.Variants {
		one := variantView{Name: x.Name, Title: k.words.T("variant." + x.Name), Text: k.words.T("variant." + x.Name + ".text")}
		for _, ext := range []string{"ova", "ovf", "vmdk", "mf"} {
			if f, ok := r.File(x.Prefix + "." + ext); ok {
				one.Files = append(one.Files, view(f, ext))
			}
		}
		v.Variants = append(v.Variants, one)
	}
	for _, f := range r.Files {
		switch {
		case strings.HasSuffix(f.Name, ".cdx.json"):
			v.Papers = append(v.Papers, view(f, "sbom"))
		case strings.HasSuffix(f.Name, ".txt"):
			v.Papers = append(v.Papers, view(f, "txt"))
		}
	}
	return v
}

// HoursInput asks for a link for a program.
type HoursInput struct {
	Hours int `json:"hours"`
}

// DownloadLink is good without a sign-in until its end.
type DownloadLink struct {
	URL     string    `json:"url"`
	Command string    `json:"command"` // for wget, which goes on where it broke off
	Expires time.Time `json:"expires"`
}

// NewRelease begins a version.
type NewRelease struct {
	Version string         `json:"version"`
	Notes   releases.Notes `json:"notes"`
}

// WithdrawInput says whether accounts see a version.
type WithdrawInput struct {
	Withdrawn bool `json:"withdrawn"`
}

func (p *Portal) downloadEndpoints() []endpoint {
	rel := p.cfg.Releases
	enabled := func(k *call) error {
		c, err := k.p.cfg.Zones.Get(k.ctx(), k.who)
		if err == nil && c.Account.Enabled.IsZero() {
			err = zones.ErrOff
		}
		return err
	}
	return []endpoint{
		api.Get("/api/v1/connector/releases", "listReleases", "What can be downloaded.", needAdmin, func(k *call) ([]releases.Release, error) {
			if err := enabled(k); err != nil {
				return nil, err
			}
			return rel.List(k.ctx(), true)
		}).With(scope("releases:read")),
		api.Send("POST", "/api/v1/connector/releases/{version}/files/{name}/link", "linkRelease", "Make a link with which a program downloads a file without a sign-in.", needAdmin,
			func(k *call, in HoursInput) (DownloadLink, error) {
				if err := enabled(k); err != nil {
					return DownloadLink{}, err
				}
				version, name := k.r.PathValue("version"), k.r.PathValue("name")
				grant, end, err := rel.Grant(k.ctx(), k.who, version, name, in.Hours)
				if err != nil {
					return DownloadLink{}, err
				}
				u := *k.p.cfg.URL
				u.Path = "/download/by/" + grant + "/" + version + "/" + name
				return DownloadLink{u.String(), "wget -c '" + u.String() + "'", end}, nil
			}).With(scope("releases:read")),

		api.Get("/api/v1/operator/releases", "listAllReleases", "All versions, also those that are not published.", needOperator, func(k *call) ([]releases.Release, error) {
			return rel.List(k.ctx(), false)
		}).With(scope("operator:read")),
		api.Send("POST", "/api/v1/operator/releases", "beginRelease", "Begin a version; its files come one by one. Of a published one, missing names the files that must be sent again, if any.", needOperator, func(k *call, in NewRelease) (releases.Begun, error) {
			return rel.Begin(k.ctx(), k.who, in.Version, in.Notes)
		}).With(scope("operator:write")),
		api.Raw("PUT", "/api/v1/operator/releases/{version}/files/{name}", "putReleaseFile", "Send a file of a version that is not published, or the same file again that is missing of a published one, as it is (application/octet-stream).", needOperator, "application/json",
			func(k *call) error {
				if k.r.ContentLength < 0 {
					return api.StatusError{Status: http.StatusLengthRequired, Code: "length"}
				}
				rc := http.NewResponseController(k.w)
				body := &pacedBody{k.r.Body, rc}
				f, err := rel.Put(k.ctx(), k.r.PathValue("version"), k.r.PathValue("name"), k.r.ContentLength, body, nil)
				if err != nil {
					return err
				}
				api.WriteJSON(k.w, http.StatusOK, f)
				return nil
			}).With(scope("operator:write")),
		api.Act("POST", "/api/v1/operator/releases/{version}/publish", "publishRelease", "Check a version and let accounts see it.", needOperator, func(k *call) (none, error) {
			return none{}, rel.Publish(k.ctx(), k.who, k.r.PathValue("version"))
		}).With(scope("operator:write")),
		api.Send("PUT", "/api/v1/operator/releases/{version}/notes", "setReleaseNotes", "Change a version's notes.", needOperator, func(k *call, in releases.Notes) (none, error) {
			return none{}, rel.SetNotes(k.ctx(), k.who, k.r.PathValue("version"), in)
		}).With(scope("operator:write")),
		api.Send("PUT", "/api/v1/operator/releases/{version}/withdrawn", "withdrawRelease", "Hide a version from accounts, or show it again.", needOperator, func(k *call, in WithdrawInput) (none, error) {
			return none{}, rel.Withdraw(k.ctx(), k.who, k.r.PathValue("version"), in.Withdrawn)
		}).With(scope("operator:write")),
		api.Act("DELETE", "/api/v1/operator/releases/{version}", "discardRelease", "Remove a version that was never published.", needOperator, func(k *call) (none, error) {
			return none{}, rel.Discard(k.ctx(), k.who, k.r.PathValue("version"))
		}).With(scope("operator:write")),
	}
}

// pacedBody gives the sender new time with each piece.
type pacedBody struct {
	r  io.Reader
	rc *http.ResponseController
}

func (p *pacedBody) Read(b []byte) (int, error) {
	_ = p.rc.SetReadDeadline(time.Now().Add(time.Minute))
	return p.r.Read(b)
}

// downloads registers the files' own addresses: GET answers HEAD too.
func (p *Portal) downloads(mux *http.ServeMux) {
	slots := make(chan struct{}, maxDownloads)
	var accounts guard.Tally
	serve := func(k *call, account string, err error) {
		version, name := k.r.PathValue("version"), k.r.PathValue("name")
		if err == nil && !k.who.Operator {
			var c zones.Connector
			c, err = p.cfg.Zones.Get(k.ctx(), people.Actor{Account: account})
			if err == nil && (c.Account.Enabled.IsZero() || !c.Account.Suspended.IsZero()) {
				err = zones.ErrOff
			}
		}
		if err == nil {
			leave, ok := accounts.Enter(account, maxAccountDownloads)
			if !ok {
				k.fail(api.Throttled{Wait: 5 * time.Second})
				return
			}
			defer leave()
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				k.fail(api.Throttled{Wait: 5 * time.Second})
				return
			}
			err = p.cfg.Releases.Serve(k.w, k.r, version, name)
		}
		var lost releases.Lost
		if errors.As(err, &lost) {
			p.cfg.Log.Error("download", "error", err)
			if strings.Contains(k.r.Header.Get("Accept"), "text/html") {
				p.message(k.w, k.r, http.StatusServiceUnavailable, "download.lost")
				return
			}
			err = api.StatusError{Status: http.StatusServiceUnavailable, Code: "release-lost"}
		}
		if err != nil {
			k.fail(err)
		}
	}
	mux.HandleFunc("GET /download/{version}/{name}", func(w http.ResponseWriter, r *http.Request) {
		k, _, err := p.caller(w, r, true)
		if err == nil && !k.who.Operator {
			err = k.allowed(needAdmin)
		}
		if err == nil && !k.who.Scoped("releases:read") {
			err = errScope
		}
		serve(k, k.who.Account, err)
	})
	mux.HandleFunc("GET /download/by/{grant}/{version}/{name}", func(w http.ResponseWriter, r *http.Request) {
		k := &call{p: p, w: w, r: r, words: p.words(r)}
		account, err := p.cfg.Releases.Granted(r.Context(), r.PathValue("grant"), r.PathValue("version"), r.PathValue("name"))
		serve(k, account, err)
	})
}

package webconsole

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
)

// Bounds of what is asked of the zone controller and the router.
const (
	figuresLimit = 5 * time.Second
	maxFigures   = 4 << 20 // bytes: 200 people in /meetings are a tenth of it
)

// figuresOf are the services that measure.
var figuresOf = map[string]bool{"zctrl": true, "mmr": true}

// metricsEndpoint stands with those of services.
func (c *Console) metricsEndpoint() endpoint {
	const text = "text/plain; version=0.0.4; charset=utf-8"
	return api.Raw("GET", "/api/v1/services/{name}/metrics", "serviceMetrics", "Figures of zctrl or mmr, in the text format of Prometheus, which takes a token as its bearer token.", needView, text,
		func(k *call) error {
			name := k.r.PathValue("name")
			if !figuresOf[name] {
				return errNotFound
			}
			return c.figures(k, name, "/metrics", text)
		})
}

func (c *Console) meetingEndpoint() endpoint {
	return api.Raw("GET", "/api/v1/meetings", "listMeetings", "The meetings that run on this appliance's router, and how media is for each participant.", needView, "application/json",
		func(k *call) error { return c.figures(k, "mmr", "/meetings", "application/json") })
}

// figures passes on what a service says on its own socket.
func (c *Console) figures(k *call, service, path, kind string) error {
	if c.cfg.Figures == nil {
		return admin.ErrAway
	}
	ctx, cancel := context.WithTimeout(k.ctx(), figuresLimit)
	defer cancel()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", c.cfg.Figures(service))
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+path, nil)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return errors.Join(admin.ErrAway, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFigures+1))
	switch {
	case err != nil:
		return errors.Join(admin.ErrAway, err)
	case resp.StatusCode != http.StatusOK || len(b) > maxFigures:
		return errors.Join(admin.ErrAway, fmt.Errorf("%s of %s: status %d, %d bytes", path, service, resp.StatusCode, len(b)))
	}
	k.w.Header().Set("Content-Type", kind)
	k.w.Header().Set("Cache-Control", "no-store")
	_, _ = k.w.Write(b) // a browser that went away is its own affair
	return nil
}

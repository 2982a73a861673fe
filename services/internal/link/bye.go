package link

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Why the portal ends a connection, or takes none.
const (
	WhyRevoked    = "revoked"    // the appliance was taken out of its zone
	WhyExpired    = "expired"    // its certificate ended while it was away
	WhyForeign    = "foreign"    // its certificate is none of this portal's
	WhyDisabled   = "disabled"   // the connector is off
	WhySuperseded = "superseded" // another connection of the same appliance came
	WhyStopping   = "stopping"   // this instance
	WhyBusy       = "busy"       // too many come at once
	WhyRefused    = "refused"    // what was said was not understood
)

// byeError is the portal's last word.
type byeError struct{ Bye }

func (e byeError) Error() string {
	out := "the portal ended the link: " + e.Why
	if e.Detail != "" {
		out += fmt.Sprintf(" (%.200q)", e.Detail)
	}
	switch e.Why {
	case WhyRevoked:
		return out + ": the appliance was taken out of its zone; to come back it is enrolled again, with a token"
	case WhyExpired:
		return out + ": the certificate ended while there was no link; to come back the appliance is enrolled again, with a token"
	case WhyForeign:
		return out + ": the certificate is none of this portal's; the appliance is enrolled again, with a token"
	case WhyDisabled:
		return out + ": the account's meeting connector is off"
	case WhySuperseded:
		return out + ": another connection came with the same certificate"
	}
	return out
}

// refusal tells what an answer means that is no link.
func refusal(err error, resp *http.Response) error {
	switch {
	case resp == nil || resp.StatusCode == http.StatusSwitchingProtocols:
		// What stands around it says no more: Get "https://…": …
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		if p := (*proxyError)(nil); errors.As(err, &p) {
			return p
		}
		return fmt.Errorf("connect: %w", err)
	case resp.StatusCode == http.StatusForbidden:
		return byeError{Bye{Why: WhyForeign}}
	case resp.StatusCode == http.StatusServiceUnavailable:
		s, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // RFC 9110, 10.2.3; a date counts as none
		return byeError{Bye{Why: WhyBusy, After: time.Duration(min(max(s, 0), 3600)) * time.Second}}
	}
	return fmt.Errorf("connect: what answers there is no portal: %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}

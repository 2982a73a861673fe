package link

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What an answer means that is no link, and what is said of it.
func TestRefusal(t *testing.T) {
	for status, x := range map[int]struct {
		why, says string
		after     time.Duration
	}{
		403: {WhyForeign, "with a token", 0},
		503: {WhyBusy, "busy", 7 * time.Second},
		302: {"", "no portal: 302", 0},
		404: {"", "no portal: 404", 0},
		502: {"", "no portal: 502", 0},
	} {
		err := refusal(errors.New("x"), &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"7"}}})
		var bye byeError
		if errors.As(err, &bye); bye.Why != x.why || bye.After != x.after || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%d: %v", status, err)
		}
	}
	for _, after := range []string{"", "soon", "-5", "Wed, 21 Oct 2026 07:28:00 GMT"} {
		var bye byeError
		if errors.As(refusal(errors.New("x"), &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {after}}}), &bye); bye.Why != WhyBusy || bye.After != 0 {
			t.Errorf("%q: %v", after, bye)
		}
	}
}

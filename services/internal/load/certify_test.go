package load

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/look"
)

// Whatever a machine carries, the search finds it to a twentieth, and never says
// more than it saw carried.
func TestSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := rapid.IntRange(0, 600).Draw(t, "truth")
		first := rapid.IntRange(1, 50).Draw(t, "first")
		most := rapid.IntRange(fewest, 500).Draw(t, "most")
		tries := 0
		carried, limit, failed, err := Search(first, most, func(n int) (Limit, error) {
			if tries++; n < fewest || n > most {
				t.Fatalf("%d participants were tried of %d", n, most)
			}
			if n > truth {
				return LimitRouter, nil
			}
			return LimitNone, nil
		})
		switch {
		case err != nil:
			t.Fatal(err)
		case carried > truth:
			t.Fatalf("%d are carried, and %d can be", carried, truth)
		case truth >= most && (carried != most || limit != LimitNone):
			t.Fatalf("%d of %d, limit %q", carried, most, limit)
		case truth < fewest && (carried != 0 || failed != fewest || limit != LimitRouter):
			t.Fatalf("%d are carried and %d are not, truth %d", carried, failed, truth)
		case truth >= fewest && truth < most && (limit != LimitRouter || failed <= truth || failed-carried > max(failed/20, 1)):
			t.Fatalf("%d are carried and %d are not, truth %d, limit %q", carried, failed, truth, limit)
		case tries > 40:
			t.Fatalf("%d tries", tries)
		}
	})
	broken := errors.New("broken")
	if _, _, _, err := Search(1, 9, func(int) (Limit, error) { return LimitNone, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestJudge(t *testing.T) {
	good := Result{Packets: 1000, Loss: 0.0005, P99: 4, Share: 0.99, Cores: 0.5, Own: 0.5}
	for name, test := range map[string]struct {
		change   func(*Result)
		loopback bool
		want     Limit
	}{
		"good":              {change: func(*Result) {}},
		"busy and good":     {change: func(r *Result) { r.Cores = 2 }},
		"loss":              {change: func(r *Result) { r.Loss = 0.002 }, want: LimitLoss},
		"nothing":           {change: func(r *Result) { r.Packets = 0 }, want: LimitLoss},
		"delay":             {change: func(r *Result) { r.P99 = 6 }, want: LimitDelay},
		"pictures":          {change: func(r *Result) { r.Share = 0.9 }, want: LimitPictures},
		"cut":               {change: func(r *Result) { r.Cut = 1 }, want: LimitCut},
		"router":            {change: func(r *Result) { r.P99, r.Cores = 6, 1.9 }, want: LimitRouter},
		"load":              {change: func(r *Result) { r.P99, r.Own = 6, 1.9 }, want: LimitSelf},
		"both":              {change: func(r *Result) { r.P99, r.Own, r.Cores = 6, 1, 0.95 }, loopback: true, want: LimitRouter},
		"both, two of them": {change: func(r *Result) { r.P99, r.Own, r.Cores = 6, 1, 0.95 }, want: LimitDelay},
	} {
		r := good
		test.change(&r)
		if got := Judge(r, test.loopback, 2); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A verdict is a sentence, in each language's own forms.
func TestTell(t *testing.T) {
	if faults := Words.Faults(); len(faults) > 0 {
		t.Error(faults)
	}
	r := Result{Packets: 9, PerSecond: 1234, Loss: 0.0001, P50: 0.25, P99: 1.5, Cores: 0.5, Own: 0.75}
	for _, test := range []struct {
		l    look.Language
		v    Verdict
		want []string
	}{
		{look.English, Verdict{Carried: 230, Failed: 240, Limit: LimitRouter, Best: r, Loopback: true}, []string{"This machine carries 230 participants at 720p; limit: CPU of router.", "Loopback", "With 230: loss 0.010 %", "0.50 of its processors"}},
		{look.English, Verdict{Carried: 1, Remote: "192.0.2.1", Best: r}, []string{"This router (192.0.2.1) carries 1 participant at 720p; more were not tried."}},
		{look.English, Verdict{Failed: 20, Limit: LimitLoss, Beyond: r, Remote: "192.0.2.1"}, []string{"does not carry even 20 participants", "loss above 0.1 %", "With 20"}},
		{look.Russian, Verdict{Carried: 230, Failed: 240, Limit: LimitRouter, Best: r, Loopback: true}, []string{"Эта машина выдерживает 230 участников при 720p; предел: процессор маршрутизатора.", "Петля", "0,010 %"}},
		{look.Russian, Verdict{Carried: 21, Best: r}, []string{"выдерживает 21 участника"}},
		{look.Russian, Verdict{Carried: 111, Best: r}, []string{"выдерживает 111 участников"}},
		{look.Russian, Verdict{Carried: 23, Best: r}, []string{"выдерживает 23 участников"}},
	} {
		got := test.v.Tell(Words[test.l])
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s, want %q", got, want)
			}
		}
	}
	for _, limit := range []Limit{LimitRouter, LimitSelf, LimitPlaces, LimitLoss, LimitDelay, LimitPictures, LimitCut} {
		if !Words[look.English].Has("limit." + string(limit)) {
			t.Errorf("no words for %q", limit)
		}
		if s := TellStep(Words[look.Russian], 20, r, limit); strings.Contains(s, "%!") || !strings.Contains(s, "20") {
			t.Error(s)
		}
	}
	if s := TellStep(Words[look.English], 20, r, LimitNone); s != "20 participants: carried (loss 0.010 %, p99 1.5 ms)" {
		t.Error(s)
	}
}

func TestListedTickets(t *testing.T) {
	next := ListedTickets("a\n\n b\r\n")
	for _, want := range []string{"a", "b"} {
		if got, err := next(t.Context(), 0); got != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := next(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "2 tickets") {
		t.Error(err)
	}
}

// Tickets of a trial meeting come from its controller, which may say "later".
func TestTrialTickets(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Code, Name string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != "POST" || r.URL.Path != "/trial" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		switch asked++; {
		case q.Code == "gone":
			http.Error(w, "no", http.StatusNotFound)
		case q.Code == "portal":
			http.Error(w, "no", http.StatusConflict)
		case q.Code == "odd":
			w.Write([]byte("{}"))
		case q.Code == "bad":
			http.Error(w, "broken", http.StatusInternalServerError)
		case asked == 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			json.NewEncoder(w).Encode(map[string]string{"ticket": q.Code + " " + q.Name})
		}
	}))
	defer s.Close()
	get := func(code string) (string, error) {
		next, err := TrialTickets(s.Client(), s.URL+"/#trial="+code)
		if err != nil {
			t.Fatal(err)
		}
		return next(t.Context(), 4)
	}
	if got, err := get("abc"); got != "abc Load 5" || err != nil || asked != 2 {
		t.Errorf("%q, %v, asked %d times", got, err, asked)
	}
	for code, want := range map[string]string{"gone": "make another one", "portal": "has a portal", "odd": "no ticket", "bad": "broken"} {
		if _, err := get(code); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	for _, link := range []string{"", "https://h", "https://h/#ticket=x", "#trial=x", "ftp://h/#trial=x", "https://h/#trial=", "%"} {
		if _, err := TrialTickets(nil, link); err == nil {
			t.Errorf("%q was taken", link)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	asked = 0
	next, _ := TrialTickets(s.Client(), s.URL+"/#trial=abc")
	if _, err := next(ended, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOwn(t *testing.T) {
	for a, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.77": false} {
		if got := Own(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

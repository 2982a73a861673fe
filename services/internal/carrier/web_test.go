package carrier

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// ends passes a request and its answer through their written forms.
func ends(t *testing.T, r *Router, a Ask) Answer {
	t.Helper()
	head, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	in, err := parseAsk(withMeet(head, a.Body))
	if err != nil {
		t.Fatal(err)
	}
	out := r.serve(in)
	if head, err = json.Marshal(out); err != nil {
		t.Fatal(err)
	}
	if out, err = parseAnswer(withMeet(head, out.Body)); err != nil {
		t.Fatal(err)
	}
	return out
}

// A request comes as it was, with the headers that are carried alone, and so does
// its answer. A handler that panics ends nothing but its request.
func TestAsk(t *testing.T) {
	p := newPair(t)
	p.router.cfg.Web = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Method == "PATCH" {
			panic("a bug")
		}
		if r.URL.Path != "/whip" || string(b) != "offer" || r.Header.Get("Authorization") != "Bearer x" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s %v %q", r.URL, r.Header, b)
		}
		w.Header().Set("Location", "/whip/s")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusCreated)
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "answer")
	})
	a := Ask{Method: "POST", Path: "/whip", Header: http.Header{"Authorization": {"Bearer x"}, "Cookie": {"a=b"}}, Body: []byte("offer")}
	out := ends(t, p.router, a)
	if out.Status != http.StatusCreated || out.Header.Get("Location") != "/whip/s" || out.Header.Get("Set-Cookie") != "" || string(out.Body) != "answer" {
		t.Errorf("%+v", out)
	}
	a.Method = "PATCH"
	if out := ends(t, p.router, a); out.Status != http.StatusInternalServerError {
		t.Errorf("%+v", out)
	}
}

func FuzzAsk(f *testing.F) {
	f.Add(withMeet([]byte(`{"method":"POST","path":"/whip","header":{"Cookie":["a"]}}`), []byte("offer")))
	f.Add(withMeet([]byte(`{"status":201,"header":{"Location":["/whip/s"]}}`), []byte("answer")))
	f.Add(withMeet([]byte(`{"status":99}`), nil))
	f.Add([]byte{0xff})
	p := newPair(&testing.T{})
	m := http.NewServeMux()
	m.HandleFunc("/whip/", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	p.router.cfg.Web = m
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAnswer(b); err == nil && (a.Status < 200 || a.Status > 599 || len(a.Header["Set-Cookie"]) > 0) {
			t.Errorf("%+v", a)
		}
		a, err := parseAsk(b)
		if err != nil {
			return
		}
		if out := p.router.serve(a); out.Status < 200 || out.Status == http.StatusInternalServerError {
			t.Errorf("%+v: %+v", a, out)
		}
	})
}

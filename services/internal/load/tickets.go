package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Tickets is Door.Ticket of a zone whose key the load has.
func (p *Parley) Tickets(_ context.Context, n int) (string, error) { return p.Ticket(n) }

// ListedTickets gives those of a text, one a line, each once.
func ListedTickets(text string) func(context.Context, int) (string, error) {
	list := strings.Fields(text)
	all := len(list)
	var mu sync.Mutex
	return func(context.Context, int) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(list) == 0 {
			return "", fmt.Errorf("there were %d tickets, and another participant needs one", all)
		}
		t := list[0]
		list = list[1:]
		return t, nil
	}
}

// slowest is how long a controller may make somebody wait who asks for tickets.
const slowest = 30 * time.Second

// TrialTickets asks the controller of a trial meeting's link for one after the
// other: "https://HOST/#trial=CODE".
func TrialTickets(client *http.Client, link string) (func(context.Context, int) (string, error), error) {
	u, err := url.Parse(link)
	code := ""
	if err == nil {
		code = strings.TrimPrefix(u.Fragment, "trial=")
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || code == "" || code == u.Fragment {
		return nil, errors.New("-trial: want the whole link of a trial meeting, as https://HOST/#trial=CODE (in quotes: a shell may take # for a comment)")
	}
	at := u.Scheme + "://" + u.Host + "/trial"
	return func(ctx context.Context, n int) (string, error) {
		for {
			t, wait, err := trialTicket(ctx, client, at, code, fmt.Sprintf("Load %d", n+1))
			if err != nil || wait == 0 {
				return t, err
			}
			if err := sleep(ctx, wait); err != nil {
				return "", err
			}
		}
	}, nil
}

// trialTicket asks once. A wait says that too many came at once.
func trialTicket(ctx context.Context, client *http.Client, at, code, name string) (text string, wait time.Duration, err error) {
	body, err := json.Marshal(map[string]string{"code": code, "name": name})
	if err != nil {
		return "", 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := client.Do(r)
	if err != nil {
		return "", 0, err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	if err != nil {
		return "", 0, err
	}
	switch a.StatusCode {
	case http.StatusOK, http.StatusCreated:
	case http.StatusTooManyRequests:
		s, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if err != nil || s < 1 {
			s = 1
		}
		return "", min(time.Duration(s)*time.Second, slowest), nil
	case http.StatusNotFound:
		return "", 0, fmt.Errorf("POST %s: no trial meeting has this link any more: make another one on the console", at)
	case http.StatusConflict:
		return "", 0, fmt.Errorf("POST %s: the appliance has a portal, and trial meetings are for those without one: certify before its token is saved, or take the token away for that time", at)
	default:
		return "", 0, fmt.Errorf("POST %s: %s: %s", at, a.Status, bytes.TrimSpace(b[:min(len(b), 300)]))
	}
	var t struct {
		Ticket string `json:"ticket"`
	}
	if err := json.Unmarshal(b, &t); err != nil || t.Ticket == "" {
		return "", 0, fmt.Errorf("POST %s: the answer holds no ticket", at)
	}
	return t.Ticket, 0, nil
}

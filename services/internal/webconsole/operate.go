package webconsole

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/look"
)

// Bounds of operations.
const (
	maxOps = 4 // under way; more are refused
	// opLimit is longer than any service's deadline to become ready or to stop.
	opLimit = 45 * time.Second
	// cutDelay lets the answer reach the browser before the console is cut off.
	cutDelay = 500 * time.Millisecond
)

// verbs are what may be done with a service.
var verbs = map[string]control.Op{"start": control.OpStart, "stop": control.OpStop, "restart": control.OpRestart}

type confirmData struct {
	Name, Verb string
	Text       string
	Action     string // the button's words
}

// operate starts, stops or restarts a service and returns to the status page,
// which tells how it went. What would cut the console off is asked about first,
// and answered before it is done.
func (c *Console) operate(w http.ResponseWriter, r *http.Request, s *session) {
	form, ok := c.form(w, r)
	if !ok {
		return
	}
	words := c.words(r)
	name, verb := r.PathValue("name"), r.PathValue("op")
	op, known := verbs[verb]
	now := c.source.get(r.Context(), fresh)
	st, i := now.status, -1
	if st != nil {
		i = slices.IndexFunc(st.Services, func(v control.Service) bool { return v.Name == name })
	}
	if st != nil && i < 0 || !known {
		c.notFound(w, r)
		return
	}
	title := cut(name, 60)
	if i >= 0 {
		title = words.Title(cut(st.Services[i].Title, 60))
	}
	cuts := op != control.OpStart && slices.Contains(c.cfg.Cutting, name)
	if cuts && form.Get("sure") != "yes" {
		c.render(w, http.StatusOK, "confirm", look.Page{
			Words: words, Title: words.T("confirm."+verb, title), Host: now.host(), User: s.user, Path: "/", Narrow: true,
			Data: confirmData{Name: name, Verb: verb, Text: words.T("confirm." + verb + "." + name), Action: words.T("do." + verb)},
		})
		return
	}
	select {
	case c.ops <- struct{}{}:
	default:
		c.sessions.setFlash(s, &flash{Bad: true, Text: words.T("op.busy")})
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	from := remote(r)
	do := func(ctx context.Context) error {
		defer func() { <-c.ops }()
		ctx, cancel := context.WithTimeout(ctx, opLimit)
		defer cancel()
		began := time.Now()
		err := c.cfg.Appliance.Do(ctx, control.Request{Op: op, Service: name})
		c.cfg.Log.Info("operation", "op", op, "service", name, "user", s.user, "from", from,
			"took", time.Since(began).Round(time.Millisecond), "error", err)
		return err
	}
	if cuts {
		c.later.Go(func() { c.cutOff(do) })
		p := look.Page{Words: words, Title: words.T("confirm."+verb, title), Host: now.host(), Path: "/", Narrow: true,
			Data: messageData{Text: words.T("cut." + verb + "." + name)}}
		if op == control.OpRestart {
			p.Refresh = 5
		}
		c.render(w, http.StatusAccepted, "message", p)
		return
	}
	// The operation takes longer than a request may.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(opLimit + writeTimeout))
	began := time.Now()
	// A browser that goes away does not undo what it asked for.
	err := do(context.WithoutCancel(r.Context()))
	f := &flash{Text: words.T("done."+verb, title, words.Seconds(time.Since(began)))}
	if err != nil {
		f = &flash{Bad: true, Text: words.T("op.failed", title, opError(words, err))}
	}
	c.sessions.setFlash(s, f)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// cutOff does an operation that ends this process or its network. Its outcome
// is in the log alone.
func (c *Console) cutOff(do func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	select {
	case <-time.After(cutDelay):
	case <-c.stopping:
	}
	go func() { // Run waits for this operation, which may be the one that ends it
		select {
		case <-c.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = do(ctx)
}

func opError(w *look.Words, err error) string {
	var refusal *control.Error
	switch {
	case errors.As(err, &refusal):
		return cut(refusal.Message, 300)
	case errors.Is(err, context.DeadlineExceeded):
		return w.T("op.timeout")
	}
	return cut(err.Error(), 300)
}

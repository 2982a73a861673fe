package load

import (
	"embed"
	"strings"

	"github.com/parley-meet/parley/services/internal/look"
)

//go:embed words
var words embed.FS

// Words are the texts of verdicts.
var Words = look.MustLoad(words, "words")

// carries chooses among forms of a text by a number: Russian has three.
func carries(l look.Language, n int) string {
	ten, hundred := n%10, n%100
	switch {
	case l == look.Russian && ten == 1 && hundred != 11, l != look.Russian && n == 1:
		return "load.carries.one"
	case l == look.Russian && ten >= 2 && ten <= 4 && (hundred < 12 || hundred > 14):
		return "load.carries.some"
	}
	return "load.carries.many"
}

// Tell puts a verdict into words, a sentence and what it rests on.
func (v *Verdict) Tell(w *look.Words) string {
	who := w.T("load.who.remote", v.Remote)
	if v.Loopback {
		who = w.T("load.who.own")
	}
	var b strings.Builder
	if v.Carried == 0 {
		b.WriteString(w.T("load.nobody", who, v.Failed))
	} else {
		b.WriteString(w.T(carries(w.Language(), v.Carried), who, v.Carried))
	}
	b.WriteString("; ")
	if v.Limit == LimitNone {
		b.WriteString(w.T("load.more"))
	} else {
		b.WriteString(w.T("load.limit", w.T("limit."+string(v.Limit))))
	}
	b.WriteString(".\n")
	if v.Loopback {
		b.WriteString(w.T("load.loopback") + "\n")
	}
	r, n := v.Best, v.Carried
	if n == 0 {
		r, n = v.Beyond, v.Failed
	}
	if r.Packets > 0 {
		b.WriteString(w.T("load.figures", n, w.Decimal(100*r.Loss, 3), w.Decimal(r.P50, 1), w.Decimal(r.P99, 1), w.Decimal(r.PerSecond, 0), w.Decimal(r.Join, 0)) + "\n")
		if r.Cores > 0 {
			b.WriteString(w.T("load.cpu", w.Decimal(r.Cores, 2), w.Decimal(r.Own, 2)) + "\n")
		} else {
			b.WriteString(w.T("load.own", w.Decimal(r.Own, 2)) + "\n")
		}
	}
	return b.String()
}

// TellStep is a line about a number of participants that was tried.
func TellStep(w *look.Words, n int, r Result, why Limit) string {
	loss, p99 := w.Decimal(100*r.Loss, 3), w.Decimal(r.P99, 1)
	if why == LimitNone {
		return w.T("load.step.good", n, loss, p99)
	}
	return w.T("load.step.bad", n, w.T("limit."+string(why)), loss, p99)
}

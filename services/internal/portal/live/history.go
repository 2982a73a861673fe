package live

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Times of the history.
const (
	sampleEvery = 20 * time.Second // to be there once in each minute
	fineStep    = time.Minute
	coarseStep  = 15 * time.Minute
	fineFor     = 48 * time.Hour
	coarseFor   = 90 * 24 * time.Hour
	thinEvery   = 15 * time.Minute
)

// sample writes a row of this minute for each appliance that runs; where one is
// there already, the higher values stay. Every instance does so.
func (s *Service) sample(ctx context.Context) {
	now := s.now()
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		list, err := states(tx, "l.contact >= ? AND l.instance = ?", store.Millis(now.Add(-link.SilentAfter)), s.instance)
		if err != nil {
			return err
		}
		for _, st := range list {
			if _, err := tx.Exec(`INSERT INTO samples (appliance_id, at, step, meetings, participants, cpu, send_bits) VALUES (?,?,?,?,?,?,?)
ON CONFLICT (appliance_id, step, at) DO UPDATE SET
meetings = CASE WHEN excluded.meetings > samples.meetings THEN excluded.meetings ELSE samples.meetings END,
participants = CASE WHEN excluded.participants > samples.participants THEN excluded.participants ELSE samples.participants END,
cpu = CASE WHEN excluded.cpu > samples.cpu THEN excluded.cpu ELSE samples.cpu END,
send_bits = CASE WHEN excluded.send_bits > samples.send_bits THEN excluded.send_bits ELSE samples.send_bits END`,
				st.Appliance, store.Millis(now.Truncate(fineStep)), int64(fineStep/time.Second), st.Status.Meetings, st.Status.Participants, int64(st.Status.CPU*1000), st.Status.SendBits); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.cfg.Log.Error("history", "error", err)
	}
}

// thin gathers old minutes into quarters of an hour, and forgets what is too old.
func (s *Service) thin(ctx context.Context) {
	now := s.now()
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		old := store.Millis(now.Add(-fineFor).Truncate(coarseStep))
		begin := beginOf("at", coarseStep)
		if _, err := tx.Exec(`INSERT INTO samples (appliance_id, at, step, meetings, participants, cpu, send_bits)
SELECT appliance_id, `+begin+`, CAST(? AS BIGINT), MAX(meetings), MAX(participants), MAX(cpu), MAX(send_bits) FROM samples WHERE step = ? AND at < ? GROUP BY appliance_id, `+begin+`
ON CONFLICT (appliance_id, step, at) DO NOTHING`, int64(coarseStep/time.Second), int64(fineStep/time.Second), old); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM samples WHERE step = ? AND at < ?", int64(fineStep/time.Second), old); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM samples WHERE step = ? AND at < ?", int64(coarseStep/time.Second), store.Millis(now.Add(-coarseFor)))
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.cfg.Log.Error("history", "error", err)
	}
}

// beginOf is SQL for the begin of the step in which a time is. The step stands in
// the text: PostgreSQL would take two placeholders for two expressions.
func beginOf(column string, step time.Duration) string {
	ms := strconv.FormatInt(step.Milliseconds(), 10)
	return column + " / " + ms + " * " + ms
}

// Point is a moment of a zone's history: sums over its appliances, but for the
// load, which is the highest of them.
type Point struct {
	At           time.Time `json:"at"`
	Meetings     int64     `json:"meetings"`
	Participants int64     `json:"participants"`
	CPU          float64   `json:"cpu"`      // 0 to 1
	SendBits     int64     `json:"sendBits"` // bit/s
}

// History is a zone's history in steps of equal length. Where nothing ran there
// is no point.
type History struct {
	Step   time.Duration `json:"step"` // ns
	From   time.Time     `json:"from"`
	To     time.Time     `json:"to"`
	Points []Point       `json:"points"`
}

// Ranges are what can be asked for, and the step of each.
var Ranges = []struct {
	Name string
	Span time.Duration
	Step time.Duration
}{
	{"1h", time.Hour, time.Minute},
	{"24h", 24 * time.Hour, 5 * time.Minute},
	{"7d", 7 * 24 * time.Hour, time.Hour},
	{"90d", 90 * 24 * time.Hour, 12 * time.Hour},
}

// History returns a zone's history over a range of that name. A zone of another
// account is people.ErrUnknown.
func (s *Service) History(ctx context.Context, who people.Actor, zone, name string) (History, error) {
	i := slices.IndexFunc(Ranges, func(r struct {
		Name       string
		Span, Step time.Duration
	}) bool {
		return r.Name == name
	})
	if i < 0 {
		return History{}, fault.New("range", "choice", cut(name, 20), "1h, 24h, 7d, 90d")
	}
	r := Ranges[i]
	now := s.now()
	h := History{Step: r.Step, From: now.Add(-r.Span).Truncate(r.Step), To: now, Points: []Point{}}
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		h.Points = []Point{}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM zones WHERE id = ? AND account_id = ?", zone, who.Account).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return people.ErrUnknown
		}
		begin := beginOf("x.at", r.Step)
		// The highest of each appliance in a step, then their sum.
		return tx.Each(func(scan func(...any) error) error {
			var at, cpu int64
			var p Point
			if err := scan(&at, &p.Meetings, &p.Participants, &cpu, &p.SendBits); err != nil {
				return err
			}
			p.At, p.CPU = store.FromMillis(at), float64(cpu)/1000
			h.Points = append(h.Points, p)
			return nil
		}, `SELECT b.t, CAST(SUM(b.m) AS BIGINT), CAST(SUM(b.p) AS BIGINT), MAX(b.c), CAST(SUM(b.s) AS BIGINT) FROM (
SELECT `+begin+` AS t, MAX(x.meetings) AS m, MAX(x.participants) AS p, MAX(x.cpu) AS c, MAX(x.send_bits) AS s
FROM samples x JOIN appliances a ON a.id = x.appliance_id WHERE a.zone_id = ? AND x.at >= ? GROUP BY x.appliance_id, `+begin+`) b GROUP BY b.t ORDER BY b.t`,
			zone, store.Millis(h.From))
	})
	return h, err
}

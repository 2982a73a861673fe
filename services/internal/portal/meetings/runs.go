package meetings

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Names of events that routers send of meetings.
const (
	EventStarted      = "meeting.started"
	EventParticipants = "meeting.participants"
	EventEnded        = "meeting.ended"
)

// EventData is what such an event says, as far as it is kept. That of an end also
// has who was there, as many as fit in an event, and how many more.
type EventData struct {
	Meeting      string `json:"meeting"`      // id, as in the ticket
	Run          string `json:"run"`          // made by the router, another each time; it stays when the meeting moves
	Participants int    `json:"participants"` // now; of meeting.ended the most that there were
}

// runLimit is how long a run of which nothing more is heard counts as going on.
const runLimit = 26 * time.Hour

// runsKept is how many runs of a meeting are kept.
const runsKept = 100

// handle writes down what a controller of a zone tells of a meeting; other
// events it passes over. It may be told twice, and in another order. A meeting
// that is not held in the zone, or that has been deleted, is passed over too.
func handle(tx *store.Tx, zone string, e link.Event, now time.Time) error {
	switch e.Name {
	case EventStarted, EventParticipants, EventEnded:
	default:
		return nil
	}
	var d EventData
	if json.Unmarshal(e.Data, &d) != nil || d.Meeting == "" || d.Run == "" || len(d.Meeting) > 64 || len(d.Run) > 64 || d.Participants < 0 || d.Participants > 1<<20 {
		return nil // an appliance that says nonsense must not hold up what comes after it
	}
	var n int
	err := tx.Row("SELECT COUNT(*) FROM meetings m WHERE m.id = ? AND (m.zone_id = ? OR m.auto_zone = ?)", d.Meeting, zone, zone).Scan(&n)
	if err != nil || n == 0 {
		return err
	}
	var r struct {
		zone           string
		meeting        string
		started, ended int64
		peak           int
	}
	err = tx.Row("SELECT meeting_id, zone_id, started, ended, peak FROM meeting_runs WHERE id = ?", d.Run).Scan(&r.meeting, &r.zone, &r.started, &r.ended, &r.peak)
	at := min(store.Millis(e.At), store.Millis(now)) // an appliance's clock may be wrong
	switch {
	case errors.Is(err, store.ErrNotFound):
		// Of a run that was never closed, as after a crash, nothing more comes.
		if e.Name == EventStarted {
			if _, err := tx.Exec("UPDATE meeting_runs SET ended = ? WHERE meeting_id = ? AND ended = 0 AND started <= ?", at, d.Meeting, at); err != nil {
				return err
			}
		}
		ended := int64(0)
		if e.Name == EventEnded {
			ended = at
		}
		_, err = tx.Exec("INSERT INTO meeting_runs (id, meeting_id, zone_id, started, ended, peak) VALUES (?,?,?,?,?,?)", d.Run, d.Meeting, zone, at, ended, d.Participants)
		if err == nil {
			_, err = tx.Exec("DELETE FROM meeting_runs WHERE meeting_id = ? AND id NOT IN (SELECT id FROM meeting_runs WHERE meeting_id = ? ORDER BY started DESC, id LIMIT ?)", d.Meeting, d.Meeting, runsKept)
		}
		return err
	case err != nil:
		return err
	case r.meeting != d.Meeting || r.zone != zone:
		return nil // another zone's run
	}
	r.started, r.peak = min(r.started, at), max(r.peak, d.Participants)
	if e.Name == EventEnded {
		r.ended = max(r.ended, at)
	}
	_, err = tx.Exec("UPDATE meeting_runs SET started = ?, ended = ?, peak = ? WHERE id = ?", r.started, r.ended, r.peak, d.Run)
	return err
}

// Started returns the zone in which a meeting is held now, or "".
func Started(tx *store.Tx, meeting string, now time.Time) (zone string, err error) {
	err = tx.Row("SELECT zone_id FROM meeting_runs WHERE meeting_id = ? AND ended = 0 AND started > ? ORDER BY started DESC LIMIT 1", meeting, store.Millis(now.Add(-runLimit))).Scan(&zone)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return zone, err
}

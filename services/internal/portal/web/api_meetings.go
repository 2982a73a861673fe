package web

import (
	"net/http"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
)

// TopicInput names a meeting that starts now.
type TopicInput struct {
	Topic string `json:"topic"`
}

// The calls of meetings' scopes.
var (
	readMeetings  = scope("meetings:read")
	writeMeetings = scope("meetings:write")
)

func (p *Portal) meetingEndpoints() []endpoint {
	m := p.cfg.Meetings
	return []endpoint{
		api.Get("/api/v1/meetings", "listMeetings", "Upcoming meetings, the next first, or past ones, the latest first: the caller's own and those that he is an alternative host of. At most 200.", needMember,
			func(k *call) ([]*meetings.Meeting, error) {
				q := k.r.URL.Query()
				return m.List(k.ctx(), k.who, q.Get("past") == "true", q.Get("all") == "true")
			}).With(readMeetings).With(func(e *endpoint) {
			e.Query = []api.Param{{Name: "past", Summary: "Those that have ended.", Schema: "boolean"}, {Name: "all", Summary: "Those of the whole account, without passcodes; for admins.", Schema: "boolean"}}
		}),
		api.Send("POST", "/api/v1/meetings", "addMeeting", "Schedule a meeting. Without a passcode one is made.", needMember,
			func(k *call, in meetings.Input) (*meetings.Meeting, error) { return m.Schedule(k.ctx(), k.who, in) }).With(writeMeetings),
		api.Send("POST", "/api/v1/meetings/now", "addInstantMeeting", "Make a meeting that starts now.", needMember,
			func(k *call, in TopicInput) (*meetings.Meeting, error) { return m.Begin(k.ctx(), k.who, in.Topic) }).With(writeMeetings),
		api.Get("/api/v1/meetings/hosting", "getHosting", "Whether the caller may host, and in which zones.", needMember,
			func(k *call) (meetings.Hosting, error) { return m.Hosting(k.ctx(), k.who) }).With(readMeetings),
		api.Get("/api/v1/meetings/room", "getRoom", "The caller's personal room, which is made when it is first asked for.", needMember,
			func(k *call) (*meetings.Meeting, error) { return m.MyRoom(k.ctx(), k.who) }).With(writeMeetings),
		api.Send("PUT", "/api/v1/meetings/room", "setRoom", "Change the personal room.", needMember,
			func(k *call, in meetings.RoomInput) (*meetings.Meeting, error) {
				return m.SetRoom(k.ctx(), k.who, in)
			}).With(writeMeetings),
		api.Get("/api/v1/meetings/{id}", "getMeeting", "A meeting.", needMember,
			func(k *call) (*meetings.Meeting, error) { return m.Get(k.ctx(), k.who, k.r.PathValue("id")) }).With(readMeetings),
		api.Send("PUT", "/api/v1/meetings/{id}", "setMeeting", "Change a scheduled meeting. Single occurrences that were changed stay so where they still take place.", needMember,
			func(k *call, in meetings.Input) (*meetings.Meeting, error) {
				return m.Change(k.ctx(), k.who, k.r.PathValue("id"), in)
			}).With(writeMeetings),
		api.Act("DELETE", "/api/v1/meetings/{id}", "removeMeeting", "Delete a meeting with all its occurrences.", needMember,
			func(k *call) (none, error) { return none{}, m.Delete(k.ctx(), k.who, k.r.PathValue("id")) }).With(writeMeetings),
		api.Act("POST", "/api/v1/meetings/{id}/start", "startMeeting", "Enter a meeting as its host. The ticket goes to one of the origins in a fragment, /m#t=TICKET, never in a query.", needMember,
			func(k *call) (meetings.Joined, error) {
				k.w.Header().Set("Cache-Control", "no-store")
				return m.Start(k.ctx(), k.who, k.r.PathValue("id"))
			}).With(person),
		api.Get("/api/v1/meetings/{id}/occurrences", "listOccurrences", "When a meeting takes place, cancelled occurrences too.", needMember,
			func(k *call) ([]meetings.Occurrence, error) {
				return m.Occurrences(k.ctx(), k.who, k.r.PathValue("id"))
			}).With(readMeetings),
		api.Send("PUT", "/api/v1/meetings/{id}/occurrences/{occurrence}", "setOccurrence", "Change one occurrence of a meeting that recurs; a cancelled one takes place again.", needMember,
			func(k *call, in meetings.OccurrenceInput) (none, error) {
				return none{}, m.ChangeOccurrence(k.ctx(), k.who, k.r.PathValue("id"), k.r.PathValue("occurrence"), &in)
			}).With(writeMeetings),
		api.Act("DELETE", "/api/v1/meetings/{id}/occurrences/{occurrence}", "cancelOccurrence", "Cancel one occurrence.", needMember,
			func(k *call) (none, error) {
				return none{}, m.ChangeOccurrence(k.ctx(), k.who, k.r.PathValue("id"), k.r.PathValue("occurrence"), nil)
			}).With(writeMeetings),
		api.Raw("GET", "/api/v1/meetings/{id}/calendar.ics", "getCalendar", "The meeting for calendars (RFC 5545).", needMember, "text/calendar", func(k *call) error {
			b, err := m.Calendar(k.ctx(), k.who, k.r.PathValue("id"), func(m *meetings.Meeting) string { return invitation(k.words, m, false) })
			if err != nil {
				return err
			}
			k.w.Header().Set("Content-Type", "text/calendar; charset=utf-8")
			k.w.Header().Set("Content-Disposition", `attachment; filename="meeting.ics"`)
			if _, err := k.w.Write(b); err != nil {
				panic(http.ErrAbortHandler) // half a file must not look whole
			}
			return nil
		}).With(readMeetings),
		api.Send("POST", "/api/v1/join", "join", "Enter a meeting by its number and passcode. Who has signed in enters under his own name; a guest gives one. A number that there is not and a wrong passcode are the same error.", needNobody,
			func(k *call, in meetings.JoinInput) (meetings.Joined, error) {
				k.w.Header().Set("Cache-Control", "no-store")
				return m.Join(k.ctx(), k.who, remote(k.r), in)
			}),
		api.Raw("GET", "/.well-known/jwks.json", "getTicketKeys", "The public keys of tickets (RFC 7517).", needNobody, "application/jwk-set+json", func(k *call) error {
			b, err := m.JWKS(k.ctx())
			if err != nil {
				return err
			}
			// Shorter than the time between publishing a key and signing with it.
			k.w.Header().Set("Cache-Control", "public, max-age=300")
			k.w.Header().Set("Content-Type", "application/jwk-set+json")
			if _, err := k.w.Write(b); err != nil {
				panic(http.ErrAbortHandler)
			}
			return nil
		}),
		api.Get("/api/v1/operator/ticket-keys", "listTicketKeys", "The keys of tickets, without their private halves.", needOperator,
			func(k *call) ([]meetings.Key, error) { return m.Keys(k.ctx(), k.who) }).With(person),
		api.Act("POST", "/api/v1/operator/ticket-keys/replace", "replaceTicketKeys", "Take all keys of tickets away at once and make a new one. Tickets that were given out are not good any more.", needOperator,
			func(k *call) (none, error) { return none{}, m.Replace(k.ctx(), k.who) }).With(person),
	}
}

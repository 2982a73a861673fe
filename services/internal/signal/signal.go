// Package signal is what a meeting page and a router say to each other: the
// messages, and the session that carries them over links that break.
//
// # Three layers
//
//	message   {"kind":"chat","to":0,"text":"hello"}       what is meant
//	frame     {"n":7,"ack":12,"body":MESSAGE}             numbers, acknowledgement
//	link      one WebSocket text message for each frame   may lose, repeat, break
//
// A link is one WebSocket to a controller, which passes frames to the meeting's
// router and back without reading their bodies. A session outlives its links.
//
// # Messages
//
// A message is a JSON object that starts with {"kind":"…" without spaces; its
// other members are those of the Go type. Unknown kinds and members are refused. A member that may be
// left out says so; false, 0, "" and empty lists are left out when written.
// Bounds are in Max….
//
//	page → router          when
//	offer        Offer      after joined, and whenever m-lines or ICE change
//	candidate    Candidate  trickled ICE candidates, after the offer
//	view         View       when what the page shows changes
//	state        State      when the person mutes, unmutes, shares, raises a hand
//	chat         Say        a line of chat
//	react        React      a reaction
//	command      Command    what hosts and cohosts do
//	stats        Stats      each StatsEvery at most
//	leave        Leave      the last word
//
//	router → page          when
//	waiting      Waiting    after opened, instead of joined; again when Why changes
//	joined       Joined     after opened, or later when let in
//	answer       Answer     after each offer
//	slots        Slots      when what a slot plays changes
//	layers       Layers     when simulcast layers become wanted or not (dynacast)
//	roster       Roster     snapshot after joined, then changes, gathered for 250 ms
//	lobby        Lobby      who waits; to hosts and cohosts alone
//	settings     Settings   after joined, and when one changes
//	speaker      Speaker    when the dominant speaker changes
//	chat         Chat       lines, and the history after joined
//	reactions    Reactions  gathered for 250 ms
//	notice       Notice     something was done to this person, or is asked of him
//	error        Error      a message was refused
//	pass         Pass       a fresh ticket for coming back by another router
//	restart      Restart    the router has other addresses
//
// Somebody who waits may send leave alone and gets waiting, joined, pass and error.
//
// Errors, notices and the ends of sessions are codes; their texts are those of
// "fault.CODE" in package fault's words.
//
// # Frames
//
// All members may be left out; numbers are integers from 0 to 2^53 - 1.
//
//	n       number of this body, from 1, growing by one in each direction
//	ack     the last number that was received with all before it
//	body    a message; with n
//	ping    true: answer with any frame at once
//	open    first frame of a page on a link: Open
//	opened  the router's answer to it: Opened
//	closed  the session, or the attempt, is over for good: Closed
//	drop    true: the router knows no session on this link (it was silent for too
//	        long): cut it and resume on another
//
// The rules, which are the same for both ends:
//
//  1. A page sends open first on each link, every OpenRetry again until opened or
//     closed arrives, and nothing else before that. Open with a ticket begins a
//     session; open with a session and its secret goes on with one. Both carry
//     ack and the link's number. A router attaches the session to that link and
//     closes the one before; a lower number than before is a late frame, and
//     ignored. Nothing but open is taken from a link that has no session: the
//     answer to anything else is drop.
//  2. Opened carries ack. Each end drops what the other one has, and sends what
//     it has not again, in order, then what is new.
//  3. At most Window bodies are under way without acknowledgement; the others
//     wait. When none was acknowledged for Resend (doubled each time up to
//     ResendMost, back to Resend when one is), those under way are sent again.
//  4. A body with the number that comes next is delivered; another one is dropped.
//     A number that came before is acknowledged again at once.
//  5. A received body is acknowledged with the next frame, AckAfter later at most.
//  6. An end that heard nothing for PingAfter sends ping. A link on which nothing
//     was heard for Silence is cut. A page then opens another one: at once, then
//     after 0.5 s, 1 s, 2 s, 4 s, 8 s, each less up to half by chance.
//  7. A session without a link for ResumeWithin is lost, and so is one with more
//     than its bounds waiting to be sent: nothing is ever left out silently.
//  8. A frame that breaks the table, a number beyond what was sent in ack, and
//     more than FrameRate and ByteRate end the session.
//
// # Secrets
//
// The page makes a secret of 32 random bytes (base64url without padding, 43
// characters) when it begins, and another one, "next", for each time it resumes.
// From then on next is the session's secret. The same resumption again (same
// secret, same next: the answer was lost) is taken again, as the same ticket with
// the same secret is; an old secret with another next is refused. So a lost
// answer costs nothing, and a secret that leaked is worth nothing after the next
// resumption. A page that was reloaded, and so has lost what it knew, resumes
// with fresh: both directions start at 1 again, nothing is sent again, and the
// router sends joined and snapshots.
package signal

import (
	"time"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// Bounds of messages. Lengths of texts are in characters (runes), others in
// bytes, lists in elements.
const (
	MaxFrame     = 384 << 10
	MaxSDP       = 256 << 10
	MaxCandidate = 512
	MaxMid       = 16
	MaxRID       = 16
	MaxSources   = 8
	MaxSlots     = 64
	MaxName      = 64
	MaxChat      = 2000
	MaxSide      = 8192 // pixels
	MaxPage      = 1000
	MaxSpotlight = 9
)

// StatsEvery is how often a page tells its figures; more often is refused.
const StatsEvery = 5 * time.Second

// ID is a participant within one meeting, from 1; 0 is nobody, or everybody. It
// is never used twice in a meeting.
type ID uint32

// Kind names a message.
type Kind string

// Message is one of the types of this package, as a pointer.
type Message interface {
	Kind() Kind
}

// Source is what somebody sends.
type Source string

// The sources. ScreenAudio goes on and off with Screen.
const (
	Microphone  Source = "microphone"
	Camera      Source = "camera"
	Screen      Source = "screen"
	ScreenAudio Source = "screenaudio"
)

// Offer is a page's offer (RFC 9429); the router always answers and never offers.
type Offer struct {
	Ref uint32 `json:"ref,omitempty"` // of the answer or error
	SDP string `json:"sdp"`
	// Sources says what the sendonly m-lines are, by mid.
	Sources map[string]Source `json:"sources,omitempty"`
	// Slots are the mids of the recvonly m-lines.
	Slots []string `json:"slots,omitempty"`
}

// Candidate is an ICE candidate of the page (RFC 8840); "" ends them.
type Candidate struct {
	Mid       string `json:"mid,omitempty"`
	Candidate string `json:"candidate,omitempty"`
}

// View is what the page shows, all of it: video slots that it does not name are
// empty. Audio slots are the router's to fill.
type View struct {
	Page  int    `json:"page,omitempty"` // of the slots that show What "page", from 0
	Slots []Show `json:"slots,omitempty"`
}

// Show is what a slot shows.
type Show struct {
	Mid    string `json:"mid"`
	What   What   `json:"what"`
	ID     ID     `json:"id,omitempty"`     // of One
	Source Source `json:"source,omitempty"` // of One: Camera or Screen
	Width  int    `json:"width"`            // pixels that are seen
	Height int    `json:"height"`
}

// What says how a slot is filled.
type What string

// The ways. ByPage slots show the cameras that are on in the order of ids, as
// many as there are such slots on each page, without those of One.
const (
	One       What = "one"
	BySpeaker What = "speaker" // whoever speaks, or is in the spotlight
	ByScreen  What = "screen"  // the screen that is shared
	ByPage    What = "page"
)

// State is what the person changes of himself; what is nil stays.
type State struct {
	Ref        uint32 `json:"ref,omitempty"`
	Microphone *bool  `json:"microphone,omitempty"` // on
	Camera     *bool  `json:"camera,omitempty"`
	Screen     *bool  `json:"screen,omitempty"`
	Hand       *bool  `json:"hand,omitempty"`
}

// Say is a line of chat.
type Say struct {
	Ref  uint32 `json:"ref,omitempty"`
	To   ID     `json:"to,omitempty"` // 0: everybody
	Text string `json:"text"`
}

// React is a reaction.
type React struct {
	Code Reaction `json:"code"`
}

// Reaction is one of a few, so that pages draw them and nothing else travels.
type Reaction string

// The reactions.
const (
	Clap     Reaction = "clap"
	ThumbsUp Reaction = "thumbs-up"
	ThumbsDn Reaction = "thumbs-down"
	Heart    Reaction = "heart"
	Laugh    Reaction = "laugh"
	Wow      Reaction = "wow"
	Party    Reaction = "party"
	Yes      Reaction = "yes"
	No       Reaction = "no"
	Slower   Reaction = "slower"
	Faster   Reaction = "faster"
	Coffee   Reaction = "coffee"
)

// Do names a command.
type Do string

// The commands, and which members of Command they have beside Ref.
const (
	Admit      Do = "admit"       // ID, who waits
	AdmitAll   Do = "admit-all"   //
	Deny       Do = "deny"        // ID, who waits
	Mute       Do = "mute"        // ID
	MuteAll    Do = "mute-all"    // On, may be left out: whether they may unmute themselves from now on
	AskUnmute  Do = "ask-unmute"  // ID
	StopVideo  Do = "stop-video"  // ID; he may not start it until asked
	AskVideo   Do = "ask-video"   // ID
	StopShare  Do = "stop-share"  // ID
	LowerHand  Do = "lower-hand"  // ID
	LowerHands Do = "lower-hands" //
	Rename     Do = "rename"      // ID, Name; 0 or the own ID is oneself
	Remove     Do = "remove"      // ID; he does not come back
	Spotlight  Do = "spotlight"   // ID, On
	MakeCohost Do = "cohost"      // ID, On
	MakeHost   Do = "host"        // ID
	Claim      Do = "claim"       // be host again, for those whose ticket says so
	Set        Do = "settings"    // Settings
	End        Do = "end"         // for all
)

// Command is what hosts and cohosts do.
type Command struct {
	Ref      uint32  `json:"ref,omitempty"`
	Do       Do      `json:"do"`
	ID       ID      `json:"id,omitempty"`
	On       *bool   `json:"on,omitempty"`
	Name     string  `json:"name,omitempty"`
	Settings *Change `json:"settings,omitempty"`
}

// Change is the settings that change; what is nil stays. See Settings.
type Change struct {
	Locked      *bool       `json:"locked,omitempty"`
	WaitingRoom *bool       `json:"waitingRoom,omitempty"`
	MuteOnJoin  *bool       `json:"muteOnJoin,omitempty"`
	Unmute      *bool       `json:"unmute,omitempty"`
	Video       *bool       `json:"video,omitempty"`
	Share       *bool       `json:"share,omitempty"`
	Rename      *bool       `json:"rename,omitempty"`
	React       *bool       `json:"react,omitempty"`
	Chat        *ChatPolicy `json:"chat,omitempty"`
	History     *bool       `json:"history,omitempty"`
}

// Stats are the page's own figures since the last ones.
type Stats struct {
	RTT      float64 `json:"rtt,omitempty"`      // ms
	UpBits   float64 `json:"upBits,omitempty"`   // bit/s sent
	DownBits float64 `json:"downBits,omitempty"` // bit/s received
	UpLoss   float64 `json:"upLoss,omitempty"`   // share, 0 to 1
	DownLoss float64 `json:"downLoss,omitempty"`
	Jitter   float64 `json:"jitter,omitempty"`   // ms
	Freezes  uint32  `json:"freezes,omitempty"`  // of video
	Relayed  bool    `json:"relayed,omitempty"`  // by TURN
	Protocol string  `json:"protocol,omitempty"` // "udp", "tcp", "tls"
}

// Leave is the last word of who goes.
type Leave struct{}

// Waiting says that the meeting is not open to this person yet, and nothing more.
type Waiting struct {
	Why Code `json:"why"` // WaitHost or WaitAdmission
}

// Joined says that the person is inside.
type Joined struct {
	You     ID          `json:"you"`
	Role    ticket.Role `json:"role"`
	Number  string      `json:"number"`
	Topic   string      `json:"topic,omitempty"`
	Test    bool        `json:"test,omitempty"`
	Started time.Time   `json:"started"` // of the meeting
	Now     time.Time   `json:"now"`     // by the router's clock
	Relay   *Relay      `json:"relay,omitempty"`
}

// Relay is a TURN server (RFC 8656) for networks that let nothing but TLS out: an
// RTCIceServer as it stands. It relays to the meeting's router alone.
type Relay struct {
	URLs       []string `json:"urls"` // "turns:HOST:443?transport=tcp"
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// Answer is the router's answer.
type Answer struct {
	Ref uint32 `json:"ref,omitempty"`
	SDP string `json:"sdp"`
}

// Slots says what plays in slots; those that it does not name stay.
type Slots struct {
	Slots []Slot `json:"slots"`
}

// Slot is one of them; ID 0 is empty.
type Slot struct {
	Mid    string `json:"mid"`
	ID     ID     `json:"id,omitempty"`
	Source Source `json:"source,omitempty"`
}

// Layers says which simulcast layers somebody looks at: the page pauses the
// others. Without RIDs it pauses all.
type Layers struct {
	Source Source   `json:"source"`
	RIDs   []string `json:"rids,omitempty"`
}

// Person is somebody inside, as all inside see him.
type Person struct {
	ID         ID          `json:"id"`
	Name       string      `json:"name"`
	Role       ticket.Role `json:"role"`
	Microphone bool        `json:"microphone,omitempty"` // on
	Camera     bool        `json:"camera,omitempty"`
	Screen     bool        `json:"screen,omitempty"`
	Hand       uint32      `json:"hand,omitempty"` // raised; the lower, the earlier
	Away       bool        `json:"away,omitempty"` // his link is lost, he may be back
}

// Roster is who is inside. Versions grow; a change follows the version that the
// page has, as the session loses none.
type Roster struct {
	Version uint64   `json:"version"`
	Full    bool     `json:"full,omitempty"` // all there are; else changes
	People  []Person `json:"people,omitempty"`
	Gone    []ID     `json:"gone,omitempty"`
}

// Lobby is who waits; only hosts and cohosts hear of it.
type Lobby struct {
	Version uint64  `json:"version"`
	Full    bool    `json:"full,omitempty"`
	People  []Guest `json:"people,omitempty"`
	Gone    []ID    `json:"gone,omitempty"`
}

// Guest is somebody who waits.
type Guest struct {
	ID   ID          `json:"id"`
	Name string      `json:"name"`
	Role ticket.Role `json:"role"`
}

// ChatPolicy says what those who are neither host nor cohost may write; all may
// always write to hosts and cohosts unless it is ChatOff.
type ChatPolicy string

// The policies.
const (
	ChatOff    ChatPolicy = "off"
	ChatHosts  ChatPolicy = "hosts"  // to hosts and cohosts
	ChatPublic ChatPolicy = "public" // and to everybody
	ChatAll    ChatPolicy = "all"    // and to each one
)

// Settings are the meeting's, as hosts set them. Those from Unmute to Chat are
// about people who are neither host nor cohost.
type Settings struct {
	Locked      bool       `json:"locked"`      // nobody new comes in
	WaitingRoom bool       `json:"waitingRoom"` // who comes waits to be let in
	MuteOnJoin  bool       `json:"muteOnJoin"`
	Unmute      bool       `json:"unmute"` // they may unmute themselves
	Video       bool       `json:"video"`  // they may turn their camera on
	Share       bool       `json:"share"`  // they may share their screen
	Rename      bool       `json:"rename"` // they may rename themselves
	React       bool       `json:"react"`
	Chat        ChatPolicy `json:"chat"`
	History     bool       `json:"history"` // who joins sees what was written to everybody
	Spotlight   []ID       `json:"spotlight"`
}

// Speaker is who speaks; 0: nobody.
type Speaker struct {
	ID ID `json:"id"`
}

// Chat is lines of chat.
type Chat struct {
	Past  bool   `json:"past,omitempty"` // history, before what this person saw
	Lines []Line `json:"lines"`
}

// Line is one.
type Line struct {
	From ID        `json:"from"`
	Name string    `json:"name"`         // of the sender then: he may have gone
	To   ID        `json:"to,omitempty"` // 0: everybody
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Reactions are those of the last moment.
type Reactions struct {
	List []Reacted `json:"list"`
}

// Reacted is one.
type Reacted struct {
	From ID       `json:"from"`
	Code Reaction `json:"code"`
}

// Notice tells what was done to this person, or is asked of him.
type Notice struct {
	Code Code `json:"code"`
	By   ID   `json:"by,omitempty"`
}

// Error says that a message was refused.
type Error struct {
	Of    Kind   `json:"of"`              // kind of the message
	Ref   uint32 `json:"ref,omitempty"`   // its Ref
	Code  Code   `json:"code"`            //
	Field string `json:"field,omitempty"` // that is wrong; "": the whole
	Args  []any  `json:"args,omitempty"`  // of the text: numbers and short texts
}

// Pass is a ticket for this person as he is now, with which he begins a session
// at another router when this one is lost. It replaces the one before.
type Pass struct {
	Ticket string `json:"ticket"`
}

// Restart asks for an offer with an ICE restart (RFC 8839, 4.4.1.1): the router has
// other addresses than those of its last answer, and the way to the old ones may
// end. A page whose media goes on may do so within a few seconds.
type Restart struct{}

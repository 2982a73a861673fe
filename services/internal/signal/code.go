package signal

// Code says why, for errors, notices and ends. Its text in each language is that
// of "fault.CODE".
type Code string

// Why somebody waits.
const (
	WaitHost      Code = "meet-wait-host"      // the host is not there yet
	WaitAdmission Code = "meet-wait-admission" // somebody has to let him in
)

// Why somebody does not come in, or is out. They close the session.
const (
	Locked     Code = "meet-locked"
	Full       Code = "meet-full"      // the router takes nobody more
	NoRouter   Code = "meet-no-router" // the zone has no router that takes meetings
	Crowded    Code = "meet-crowded"   // too many wait
	Removed    Code = "meet-removed"   // by a host; he does not come back
	Denied     Code = "meet-denied"    // he was not let in
	NotStarted Code = "meet-no-host"   // the host did not come
	Ended      Code = "meet-ended"     // by a host, or the last one left
	Elsewhere  Code = "meet-elsewhere" // ticket for another meeting
	Used       Code = "meet-used"      // ticket was used before
	BadTicket  Code = "meet-ticket"    // expired, or none
	Left       Code = "meet-left"      // he went
	Taken      Code = "meet-taken"     // the same person came in anew while his link was lost
	Moved      Code = "meet-moved"     // the meeting goes on at another router: join again with the pass
	Stopping   Code = "meet-stopping"  // the router stops
)

// Why a session ends without anybody's will. A page that sees one of them joins
// again with a pass or a ticket.
const (
	Unknown  Code = "meet-session"  // no such session, or not with this secret
	Idle     Code = "meet-idle"     // without a link for ResumeWithin
	Overflow Code = "meet-overflow" // more waited to be sent than is kept
	Garbled  Code = "meet-garbled"  // a frame that breaks the rules
	Flooded  Code = "meet-flooded"  // far too many frames
	Replaced Code = "meet-replaced" // resumed on another link; closes the old link alone
)

// Why a message was refused.
const (
	NotAllowed  Code = "meet-not-allowed"  // not by this role
	NotInside   Code = "meet-not-inside"   // who waits may do nothing
	NoSuch      Code = "meet-nobody"       // nobody of this ID is there
	NotOpen     Code = "meet-not-open"     // the host has turned this off
	HostMuted   Code = "meet-host-muted"   // he may not unmute himself
	HostStopped Code = "meet-host-stopped" // he may not start his camera
	Sharing     Code = "meet-sharing"      // somebody else shares
	TooFast     Code = "meet-too-fast"
	TooMany     Code = "meet-too-many" // of what is bounded, as spotlights
	BadOffer    Code = "meet-offer"    // SDP that is not understood; Args: why
)

// What a notice tells or asks.
const (
	WasMuted     Code = "meet-was-muted"
	PleaseUnmute Code = "meet-please-unmute" // asks: nobody is unmuted by others
	WasStopped   Code = "meet-was-stopped"   // the camera
	PleaseVideo  Code = "meet-please-video"
	ShareStopped Code = "meet-share-stopped"
	HandLowered  Code = "meet-hand-lowered"
	YouHost      Code = "meet-you-host"
	YouCohost    Code = "meet-you-cohost"
	NotCohost    Code = "meet-not-cohost"
	NotHost      Code = "meet-not-host" // somebody else is now
	WasRenamed   Code = "meet-was-renamed"
)

// Codes are all of them, for the test of their texts.
func Codes() []Code {
	return []Code{WaitHost, WaitAdmission,
		Locked, Full, NoRouter, Crowded, Removed, Denied, NotStarted, Ended, Elsewhere, Used, BadTicket, Left, Taken, Moved, Stopping,
		Unknown, Idle, Overflow, Garbled, Flooded, Replaced,
		NotAllowed, NotInside, NoSuch, NotOpen, HostMuted, HostStopped, Sharing, TooFast, TooMany, BadOffer,
		WasMuted, PleaseUnmute, WasStopped, PleaseVideo, ShareStopped, HandLowered, YouHost, YouCohost, NotCohost, NotHost, WasRenamed}
}

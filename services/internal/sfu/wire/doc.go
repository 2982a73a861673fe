// Package wire moves the media of a router: UDP sockets that are read and written
// in batches, streams for networks that let no UDP through, and SRTP.
//
// One Mux serves all peers. A peer's ICE and DTLS are somebody else's (package
// transport): the mux hands them what is theirs through a Conn, by the user name
// fragment of STUN requests (RFC 8445, 7.3) and by address after that. RTP and
// RTCP never go that way. They are told apart by the first byte (RFC 7983) and
// given to the peer's Handler on the goroutine that read them, so a packet is
// forwarded before the reader looks at the next batch.
//
// An address belongs to a peer from the moment when its ICE agent has answered an
// authenticated request from there. DTLS and media from any other address go
// nowhere.
//
// A peer may be reached by UDP or by a stream (RFC 4571 framing). To ICE every way
// looks the same: a Path has an address of its own in a range that exists only
// inside the process, and the agent sees no other.
//
// What is sent is collected in an Out: packets to the same path that are of the same
// size (the last one may be shorter) leave as one UDP_SEGMENT message, whatever went
// to others between them, and all messages of a batch in one sendmmsg. Nothing is
// allocated for a packet.
//
// Each reader of a port forwards what it reads. A port has one reader for each two
// processors; all packets of a client come to the same one.
package wire

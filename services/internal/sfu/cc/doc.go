// Package cc is congestion control for both directions of a media router, and
// what belongs to it in RTCP. To a subscriber: Estimator says how much the way
// carries, Allocate spends it on layers, Pacer decides what leaves now. From a
// publisher: Arrivals makes its transport-wide feedback, Nacks asks for what is
// missing, Reception and Clock make reports.
//
// Everything here is a mechanism without goroutines, locks or a clock. Times are
// durations since an epoch that the caller chooses, the same for every call to
// one object, and never run backwards. A caller holds a lock around each object.
// Per packet nothing is allocated; rings are allocated when they are first used.
//
// Rates are bits per second, sizes are bytes. A packet's size is what the
// network carries of it; whether that counts IP and UDP does not matter as long as
// it is always the same.
//
// Sources: RFC 3550 and RFC 4585 (reports, NACK), draft-holmer-rmcat-transport-
// wide-cc-extensions-01 (feedback), draft-ietf-rmcat-gcc-02 with the trendline of
// libwebrtc instead of the Kalman filter (estimator), draft-alvestrand-rmcat-remb.
package cc

package stream

import (
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// Stats is a snapshot of a stream. Its parts are read one after the other, not at one instant.
type Stats struct {
	State    State
	Attempts uint64 // attempts so far; the number of the newest
	Outages  uint64 // attempts that were lost after they had been attached, and that might be resumed
	Resumes  uint64 // attempts attached after the first

	Sent        uint64 // messages accepted by Send
	Replayed    uint64 // messages sent again
	LastSeq     uint64 // highest sequence number sent
	Acked       uint64 // highest sequence number acknowledged
	Unacked     int    // messages kept until they are acknowledged
	UnackedSize int    // their encoded size in bytes

	Received   uint64 // messages received, protocol messages and repeated ones included
	Deliveries uint64 // messages handed to the application
	Duplicates uint64 // messages dropped because they came again
	Waiting    int    // messages, and positions alone, that arrived and were not handed over yet
	Held       int    // messages that wait for a position
	HeldSize   int    // their encoded size in bytes

	// Delivered is the position of what was handed over, Processed of what the application has done with, Committed of
	// what the store has. Without a store the last is zero.
	Delivered, Processed, Committed checkpoint.Position

	LastMessage   time.Time // when the last message was received, of those since the first call of Stats; zero: none
	LastError     error     // what the last attempt ended with after which the stream went on
	CommitError   error     // of the last write to the store; nil after one that succeeded
	EventsDropped uint64    // events that no observer was told of, since they came too fast
}

// counts are the counters that belong to neither half of a stream.
type counts struct {
	attempts, outages, resumes, replayed atomic.Uint64
}

// Stats returns a snapshot. It is cheap, and may be called at any time from any goroutine.
func (s *ClientStream[Req, Res]) Stats() Stats {
	st := Stats{
		State:    s.State(),
		Attempts: s.counts.attempts.Load(), Outages: s.counts.outages.Load(),
		Resumes: s.counts.resumes.Load(), Replayed: s.counts.replayed.Load(),
		EventsDropped: s.events.droppedEvents(),
	}
	if e := s.lastErr.Load(); e != nil {
		st.LastError = e.cause
	}
	out := s.outbox.Stats()
	st.Sent, st.LastSeq, st.Acked = out.Sent, out.LastSeq, out.Acked
	st.Unacked, st.UnackedSize = out.Unacked, out.UnackedSize
	in := s.inbox.Stats()
	st.Received, st.Deliveries, st.Duplicates = in.Received, in.Deliveries, in.Duplicates
	st.Waiting, st.Held, st.HeldSize = in.Ready, in.Held, in.HeldSize
	st.Delivered, st.Processed, st.LastMessage = in.Delivered, in.Processed, in.LastMessage
	if s.committer != nil {
		st.Committed, st.CommitError = s.committer.last()
	}
	return st
}

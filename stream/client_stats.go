package stream

import (
	"sync/atomic"
	"time"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// Stats is a snapshot of a stream. Its fields are read one after the other, not at the same instant.
type Stats struct {
	State    State
	Attempts uint64 // attempts so far, and the number of the newest
	Outages  uint64 // attempts lost after they had been attached; planned closes and the end of the stream do not count
	Resumes  uint64 // attempts that were attached, without the first

	// Rotations counts planned rotations: an attempt took over while the one before still worked. They also count as Resumes.
	Rotations uint64

	Sent        uint64 // messages that Send and SendFrom have accepted, without those that have a key
	Replayed    uint64 // messages that were sent again
	Rejected    uint64 // messages that WithReplay has dropped because an interceptor rejected them twice
	LastSeq     uint64 // the highest sequence number sent
	Acked       uint64 // the highest sequence number acknowledged
	Unacked     int    // messages that WithReplay keeps until they are acknowledged; SendFrom keeps none
	UnackedSize int    // their encoded size in bytes
	Keys        int    // keys that Callbacks.Key makes the stream keep a message of
	KeysSize    int    // the encoded size of these messages and their keys in bytes

	Received   uint64 // messages received, with protocol messages and repeated ones
	Deliveries uint64 // messages handed to the application
	Duplicates uint64 // messages dropped because they came again
	Waiting    int    // messages and bookmarks that have arrived and wait for Recv
	Held       int    // messages that HoldUntilCheckpoint holds
	HeldSize   int    // what they count for, in bytes

	// Delivered is the position up to which messages were handed over. Processed is the position up to which they count as
	// processed. Committed is the position in the store. It is zero without a store.
	Delivered, Processed, Committed checkpoint.Position
	// StoreEpoch is the epoch with which WithStore has acquired the key. An application that commits the position by itself,
	// in a transaction with what the messages have done, gives it to the store. It is zero without a store.
	StoreEpoch uint64

	LastMessage   time.Time // when the newest message arrived, of those since the first call of Stats; zero: none
	LastError     error     // the end of the last attempt after which the stream went on, or what the attempt after it waits for
	CommitError   error     // of the last write to the store; nil after a write that succeeded
	EventsDropped uint64    // events that were not reported because observers were too slow
}

// counts are the counters that belong to neither half of a stream.
type counts struct {
	attempts, outages, resumes, replayed, rejected, rotations atomic.Uint64

	rejectedTold atomic.Uint64 // how many of rejected Flush has told of
}

// Stats returns a snapshot. It is cheap. It may be called at any time, from any goroutine.
func (s *ClientStream[Req, Res]) Stats() Stats { return s.stats(s.inbox.Stats()) }

// peek is Stats for observers: it does not make the stream read the clock for each message.
func (s *ClientStream[Req, Res]) peek() Stats { return s.stats(s.inbox.Peek()) }

func (s *ClientStream[Req, Res]) stats(in inbox.Counts) Stats {
	st := Stats{
		State:    s.State(),
		Attempts: s.counts.attempts.Load(), Outages: s.counts.outages.Load(),
		Resumes: s.counts.resumes.Load(), Replayed: s.counts.replayed.Load(), Rejected: s.counts.rejected.Load(),
		Rotations: s.counts.rotations.Load(), EventsDropped: s.events.droppedEvents(),
	}
	if e := s.lastErr.Load(); e != nil {
		st.LastError = e.cause
	}
	out := s.outbox.Stats()
	st.Sent, st.LastSeq, st.Acked = out.Sent, out.LastSeq, out.Acked
	st.Unacked, st.UnackedSize = out.Unacked, out.UnackedSize
	st.Keys, st.KeysSize = out.Keys, out.KeysSize
	st.Replayed += out.PulledAgain
	st.Received, st.Deliveries, st.Duplicates = in.Received, in.Deliveries, in.Duplicates
	st.Waiting, st.Held, st.HeldSize = in.Ready, in.Held, in.HeldSize
	st.Delivered, st.Processed, st.LastMessage = in.Delivered, in.Processed, in.LastMessage
	if s.committer != nil {
		st.Committed, st.CommitError = s.committer.last()
		st.StoreEpoch = s.committer.epoch
	}
	return st
}

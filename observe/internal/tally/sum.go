package tally

import "github.com/streamsafe/streamsafe/stream"

// Counts are counters of streams.
type Counts struct {
	Started, Attempts, Outages, Resumes, Rotations                       uint64
	Sent, Replayed, Acked, Received, Delivered, Duplicates, CommitFailed uint64
	Unseen                                                               uint64 // events that observers were too slow for
}

// Add adds what a stream has counted. Started and CommitFailed are not in its Stats.
func (c *Counts) Add(s *stream.Stats) {
	c.Attempts += s.Attempts
	c.Outages += s.Outages
	c.Resumes += s.Resumes
	c.Rotations += s.Rotations
	c.Sent += s.Sent
	c.Replayed += s.Replayed
	c.Acked += s.Acked
	c.Received += s.Received
	c.Delivered += s.Deliveries
	c.Duplicates += s.Duplicates
	c.Unseen += s.EventsDropped
}

// Levels are what streams that are open have now.
type Levels struct {
	States             [stream.Rotating + 1]int // streams by state
	Unacked, Waiting   int
	Held, UnackedBytes int
}

// Add adds what an open stream has.
func (l *Levels) Add(s *stream.Stats) {
	if int(s.State) < len(l.States) {
		l.States[s.State]++
	}
	l.Unacked += s.Unacked + s.Keys
	l.UnackedBytes += s.UnackedSize + s.KeysSize
	l.Waiting += s.Waiting
	l.Held += s.Held
}

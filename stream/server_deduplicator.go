package stream

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// Deduplicator decides which of a client's numbered messages are new: after a break, a client with WithReplay sends again
// what was not acknowledged, and the server may have it. Keep one for each session of a client, as long as the session lives.
// What it takes for repeated should never run ahead of what is stored: see Check. It is safe for concurrent use. See [NewDeduplicator].
type Deduplicator struct {
	mu sync.Mutex // guards the field below
	in *inbox.Inbox[int, struct{}]
}

// NewDeduplicator returns a deduplicator for a client whose messages up to the number received are there already: zero for a
// new session.
func NewDeduplicator(received uint64) *Deduplicator {
	in := inbox.New[int, struct{}](inbox.Config{NoGaps: true})
	in.StartsFrom(checkpoint.Position{Seq: received})
	in.Attach(1)
	return &Deduplicator{in: in}
}

// Check reports what Accept would say of the message with this number, and accepts nothing. If a message is stored before it is
// processed, in a database say, call Check, store the message, and call Accept when that has succeeded. If it fails, the
// message is still new when it comes again. Let only one goroutine at a time do this for a session, also after a break, when
// the handler of an older attempt may still be at work.
func (d *Deduplicator) Check(seq uint64) (fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch received := d.in.Position().Seq; {
	case seq == 0:
		return false, errNoNumber()
	case seq-1 > received:
		return false, gapped(seq, received)
	default:
		return seq > received, nil
	}
}

func errNoNumber() error {
	return status.Error(codes.InvalidArgument, "stream: a message has no number")
}

// Accept reports whether the message with this number is new. If it is not, drop the message, and acknowledge it again. If
// messages before it are missing, Accept returns an error, whose status is FAILED_PRECONDITION: they were lost, or the client
// counts differently. Numbers begin with 1. Zero is an error with INVALID_ARGUMENT.
func (d *Deduplicator) Accept(seq uint64) (fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	received := d.in.Position().Seq
	switch {
	case seq == 0:
		return false, errNoNumber()
	case received == 0 && seq > 1:
		return false, gapped(seq, received)
	}
	_, attempt, err := d.in.Begin()
	if err != nil {
		return false, err
	}
	fresh, report := d.in.Arrived(attempt, &inbox.Arrival[struct{}]{
		Message: &struct{}{}, Position: checkpoint.Position{Seq: seq}, HasPosition: true,
	}, false)
	if report == nil {
		return fresh, nil
	}
	if report.Breaks() {
		err = gapped(seq, received)
	}
	d.in.Settle(attempt, false)
	return fresh, err
}

func gapped(seq, received uint64) error {
	return status.Error(codes.FailedPrecondition, fmt.Sprintf("stream: message %d came, and %d was the last one", seq, received))
}

// Received returns the highest number that was accepted, which is what an acknowledgement says. All messages up to it were
// accepted.
func (d *Deduplicator) Received() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in.Position().Seq
}

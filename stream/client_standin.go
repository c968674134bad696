package stream

import "time"

// This file sees to it that a Send that waits does not depend on the application receiving (invariant 35): for room in the
// replay buffer, for a replay, for flow control. The server may wait for its own messages to be received before it takes
// more, and an application that sends and receives in one goroutine does not receive while it sends.
//
// Nobody can know that a Send will wait, and a timer for each would cost more than the Send. So the first Send after a
// pause starts a look at the outbox from time to time, and a look that finds no Send ends them. A look that finds a Send that
// has made no progress since the last one receives in the application's place, into the queue for Recv and up to its bounds:
// until the application receives itself, or nothing is sent any more. WithAckTimeout, too, has somebody receive while something
// is unacknowledged and the limit comes near.

// The time between two looks. It doubles, up to the second, while a Send makes no progress: there may be an outage.
const (
	firstLook = 20 * time.Millisecond
	mostLook  = time.Second
)

// watchSends begins to look at the outbox. It is called when the outbox says that nobody does.
func (s *ClientStream[Req, Res]) watchSends() { s.lookAfter(firstLook) }

// lookAfter looks at the outbox after d, in a goroutine of its own. That ends when nothing is sent, and, if it receives, with
// the attempt or before; the fence waits for it.
func (s *ClientStream[Req, Res]) lookAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		stalled, again := s.outbox.Stalled()
		if !again || s.ctx.Err() != nil {
			return
		}
		if !stalled {
			s.lookAfter(firstLook)
			return
		}
		s.lookAfter(min(2*d, mostLook))
		s.standIn(s.outbox.IsWatched)
	})
}

// standIn receives in the application's place, while that is wanted.
func (s *ClientStream[Req, Res]) standIn(wanted func() bool) {
	a := s.newest.Load()
	if a == nil {
		return
	}
	for alive := true; alive && wanted() && s.inbox.Claim(a, false); {
		_, _, alive = s.receiveFrom(a, nil, true)
	}
}

package rpcstatus

import (
	"context"
	"errors"
	"time"
)

// mostSlack is how much earlier than a deadline a cancellation may come that is due to the deadline, at most. See [AtDeadline].
const mostSlack = 10 * time.Millisecond

// AtDeadline reports whether ctx is done since its deadline has passed, for work that began at since.
//
// A server knows its client's deadline by what was left when the RPC was sent, and so believes it to be a little later than
// it is. The client's cancellation at the deadline often comes first. So a cancellation in the last tenth of the time, and
// in its last 10 ms, is taken for the deadline.
func AtDeadline(ctx context.Context, since time.Time) bool {
	err := ctx.Err()
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return err != nil
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return false
	}
	slack := max(0, min(deadline.Sub(since)/10, mostSlack))
	return !time.Now().Before(deadline.Add(-slack))
}

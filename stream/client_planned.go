package stream

import (
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// This file says what the client makes of the ends that a ServerInterceptor tells in the trailer.

// plannedByServer reports whether the server has ended the attempt to move it elsewhere: it is drained, or the attempt has
// reached its age there. That is no failure (invariant 28).
func (l *loss) plannedByServer() bool {
	if l.origin != fromServer || rpcstatus.Of(l.err).Code() != codes.Unavailable {
		return false
	}
	told := l.trailer.Get(endTrailer)
	return len(told) == 1 && (told[0] == EndDrained.String() || told[0] == EndAged.String())
}

// supersededBy returns the epoch of the attempt that has taken the place of l's on the server, zero if none has.
func (l *loss) supersededBy() uint64 {
	if l.origin != fromServer || rpcstatus.Of(l.err).Code() != codes.Aborted {
		return 0
	}
	told := l.trailer.Get(supersededTrailer)
	if len(told) != 1 {
		return 0
	}
	epoch, err := strconv.ParseUint(told[0], 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

// isSuperseded reports whether an attempt that this stream has not opened has taken the place of l's: another client has the
// stream's id. Two clients must not evict each other in a loop (invariant 46). If it was an attempt of this stream, a hedge for
// example, that is a loss like any other.
func (s *ClientStream[Req, Res]) isSuperseded(l *loss) bool {
	return l.supersededBy() > s.counts.attempts.Load()
}

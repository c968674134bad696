package rpcstatus

import (
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// PushbackKey is the trailer in which a server says how long to wait before the next try, in milliseconds (gRFC A6).
const PushbackKey = "grpc-retry-pushback-ms"

// Hint is what a server said about trying again.
type Hint struct {
	Given bool          // the server said something
	Never bool          // the server asked not to try again
	Delay time.Duration // the least time to wait; zero where Never is set
}

// HintOf reads a server's hint from the status of err (google.rpc.RetryInfo) and from its trailers
// ([PushbackKey]; a negative or malformed value asks not to retry, as gRFC A6 has it). The longer of two delays counts.
func HintOf(err error, trailer metadata.MD) Hint {
	var hint Hint
	if info, ok := retryInfo(Of(err)); ok {
		hint = Hint{Given: true, Delay: max(0, info.GetRetryDelay().AsDuration())}
	}
	values := trailer.Get(PushbackKey)
	if len(values) == 0 {
		return hint
	}
	ms, parseErr := strconv.ParseInt(values[0], 10, 32)
	if parseErr != nil || ms < 0 || len(values) > 1 {
		return Hint{Given: true, Never: true}
	}
	return Hint{Given: true, Delay: max(hint.Delay, time.Duration(ms)*time.Millisecond)}
}

func retryInfo(st *status.Status) (*errdetails.RetryInfo, bool) {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info, true
		}
	}
	return nil, false
}

package stream

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// ErrSuperseded is the cause if a newer attempt of the same stream has taken the place of a handler. See [AttemptFrom].
var ErrSuperseded = errors.New("stream: superseded by a newer attempt")

// End says how a handler of a server stream came to its end.
type End uint8

const (
	// EndReturned means that the handler has returned, with or without an error.
	EndReturned End = iota
	// EndPanicked means that the handler has panicked.
	EndPanicked
	// EndExited means that the handler has ended its goroutine, by runtime.Goexit.
	EndExited
	// EndIdle means that the client sent nothing for too long. See WithIdleTimeout.
	EndIdle
	// EndSlow means that the client took too long to read a message. See WithSendTimeout.
	EndSlow
	// EndAged means that the stream had reached its greatest age. See WithMaxAge.
	EndAged
	// EndDrained means that the server was drained. See [Drainer].
	EndDrained
	// EndSuperseded means that a newer attempt of the same stream has come. See [AttemptFrom].
	EndSuperseded
	// EndUnauthorized means that the authorization of the stream was over. See WithAuthorizationUntil.
	EndUnauthorized
	// EndTimeout means that a timeout of WithServerPolicies was over.
	EndTimeout
	// EndRefused means that the handler was never called: a policy, a drain, the fence or wrong metadata kept the stream out.
	EndRefused
)

// String returns the end in one word.
func (e End) String() string {
	names := [...]string{
		EndReturned: "returned", EndPanicked: "panicked", EndExited: "exited", EndIdle: "idle", EndSlow: "slow", EndAged: "aged",
		EndDrained: "drained", EndSuperseded: "superseded", EndUnauthorized: "unauthorized", EndTimeout: "timeout", EndRefused: "refused",
	}
	if int(e) >= len(names) {
		return fmt.Sprintf("end(%d)", uint8(e))
	}
	return names[e]
}

// EndedError says why a server stream was ended before its handler has returned. It is the cause of the handler's context,
// see context.Cause, and Send and Recv return it from then on. Its status is what the client gets.
type EndedError struct {
	// End is what ended the stream.
	End End

	text    string
	code    codes.Code
	retry   time.Duration // when the client may come again; zero: the status says nothing of it
	trailer metadata.MD   // nil, or what tells a client of ours more
	cause   error         // nil, or what errors.Is finds
}

// Error says why.
func (e *EndedError) Error() string { return "stream: " + e.text }

// Unwrap returns the cause, such as [ErrSuperseded]. It may be nil.
func (e *EndedError) Unwrap() error { return e.cause }

// GRPCStatus returns the status that the client gets:
//
//	EndIdle, EndAged, EndDrained  UNAVAILABLE, with RetryInfo
//	EndSlow                       RESOURCE_EXHAUSTED, with RetryInfo
//	EndSuperseded                 ABORTED
//	EndUnauthorized               UNAUTHENTICATED
//	EndTimeout                    DEADLINE_EXCEEDED
func (e *EndedError) GRPCStatus() *status.Status {
	return rpcstatus.WithRetryInfo(status.New(e.code, e.Error()), e.retry)
}

// The trailer in which a server says that it has ended a stream early and why, for clients of this package.
const (
	endTrailer        = "streamsafe-end" // the name of an End
	supersededTrailer = "streamsafe-superseded-by"
)

// soon is the least time that a client is asked to wait before it comes again.
const soon = 100 * time.Millisecond

func endTold(e End) metadata.MD { return metadata.Pairs(endTrailer, e.String()) }

func idleEnd(limit time.Duration) *EndedError {
	return &EndedError{
		End: EndIdle, code: codes.Unavailable, retry: soon, trailer: endTold(EndIdle),
		text: fmt.Sprintf("no message from the client within %v (see WithIdleTimeout)", limit),
	}
}

func slowEnd(limit time.Duration) *EndedError {
	return &EndedError{
		End: EndSlow, code: codes.ResourceExhausted, retry: time.Second, trailer: endTold(EndSlow),
		text: fmt.Sprintf("the client has not taken a message within %v (see WithSendTimeout)", limit),
	}
}

func agedEnd(age time.Duration) *EndedError {
	return &EndedError{
		End: EndAged, code: codes.Unavailable, retry: soon, trailer: endTold(EndAged),
		text: fmt.Sprintf("the stream has reached its age of %v (see WithMaxAge)", age.Round(time.Millisecond)),
	}
}

func unauthorizedEnd() *EndedError {
	return &EndedError{
		End: EndUnauthorized, code: codes.Unauthenticated, trailer: endTold(EndUnauthorized),
		text: "the authorization of the stream is over (see WithAuthorizationUntil)",
	}
}

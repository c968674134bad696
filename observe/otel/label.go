package otel

import (
	"errors"
	"io"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/observe/internal/tally"
	"github.com/streamsafe/streamsafe/stream"
)

// The attributes. Their values are closed sets, or go through a names (invariant 52).
const (
	keyMethod    = attribute.Key("grpc.method")
	keyStatus    = attribute.Key("grpc.status")
	keyTarget    = attribute.Key("grpc.target")
	keyStream    = attribute.Key("streamsafe.stream")
	keyState     = attribute.Key("streamsafe.state")
	keyMessages  = attribute.Key("streamsafe.messages")
	keyEvent     = attribute.Key("streamsafe.event")
	keyEnd       = attribute.Key("streamsafe.end")
	keyRecovered = attribute.Key("streamsafe.recovered")
	keyReason    = attribute.Key("streamsafe.reason")
	keyPolicy    = attribute.Key("streamsafe.policy")
)

// A peer or an application may come with any number of names.
const (
	maxNames  = 1000
	otherName = "other"
)

// names bounds the values of an attribute: what comes after maxNames others is "other".
type names struct {
	mu    sync.Mutex // guards the field below
	known map[string]struct{}
}

func (n *names) bound(name string) string {
	if name == "" {
		return otherName
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.known[name]; ok {
		return name
	}
	if len(n.known) >= maxNames {
		return otherName
	}
	if n.known == nil {
		n.known = make(map[string]struct{})
	}
	n.known[name] = struct{}{}
	return name
}

// method returns the value of grpc.method: gRFC A66 has it without the slash in front.
func (o *Observer) method(full string) attribute.KeyValue {
	if len(full) > 0 && full[0] == '/' {
		full = full[1:]
	}
	return keyMethod.String(o.methods.bound(full))
}

// statusOf returns the value of grpc.status. A server may send any number as its code.
func statusOf(err error) attribute.KeyValue { return keyStatus.String(codeName(codeOf(err))) }

func codeOf(err error) codes.Code {
	if err == nil || errors.Is(err, io.EOF) {
		return codes.OK
	}
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return status.FromContextError(err).Code()
}

func codeName(code codes.Code) string {
	// These are the names of gRFC A66. The String of a code has others.
	names := [...]string{
		codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
		codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
		codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
		codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
		codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
		codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
	}
	if int(code) >= len(names) {
		return "UNKNOWN"
	}
	return names[code]
}

// reasonOf returns why a stream has ended: a word of stream.Reason, or "ok".
func reasonOf(err error) attribute.KeyValue { return keyReason.String(tally.ReasonOf(err)) }

// endedBadly reports whether a stream has ended with what somebody may have to look at: not with OK, nor because the application
// has closed it.
func endedBadly(err error) bool {
	if err == nil || errors.Is(err, io.EOF) {
		return false
	}
	e, ok := errors.AsType[*stream.Error](err)
	return !ok || e.Reason != stream.ReasonClosed && e.Reason != stream.ReasonContext
}

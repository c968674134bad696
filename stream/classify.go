package stream

import (
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// resumable is the table of what may be resumed. It is the same when opening, in Resume and in mid-stream
// (invariant 16); err is the server's or the transport's, never one of this package's own limits.
//
//	code                             resumable
//	UNAVAILABLE                      yes
//	any, for RST_STREAM              yes (invariant 19), but for INADEQUATE_SECURITY
//	INTERNAL, CANCELLED, UNKNOWN     where the transport made it (invariant 19)
//	RESOURCE_EXHAUSTED, ABORTED      with a hint of the server's (RetryInfo or grpc-retry-pushback-ms)
//	everything else                  no: the server's last word
//
// A pushback that asks not to retry (gRFC A6) makes every code the server's last word.
func resumable(err error, hint rpcstatus.Hint) bool {
	if hint.Never {
		return false
	}
	st := rpcstatus.Of(err)
	if _, told := status.FromError(err); told && strings.HasPrefix(st.Message(), rstStream) {
		return st.Code() != codes.PermissionDenied // INADEQUATE_SECURITY will not get better
	}
	switch st.Code() {
	case codes.Unavailable:
		return true
	case codes.Internal, codes.Canceled, codes.Unknown:
		_, told := status.FromError(err) // or it is an error of the application's
		return told && madeByTransport(st)
	case codes.ResourceExhausted, codes.Aborted:
		return hint.Given
	case codes.OK, codes.InvalidArgument, codes.DeadlineExceeded, codes.NotFound, codes.AlreadyExists,
		codes.PermissionDenied, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.DataLoss,
		codes.Unauthenticated:
		return false
	default:
		return false
	}
}

// rstStream is how grpc-go's transport begins the message of a stream that an RST_STREAM frame has ended.
const rstStream = "stream terminated by RST_STREAM with error code: "

// madeByTransport reports whether grpc-go's transport made the status, for want of a server's trailers. The transport
// leaves no other mark than its own words, which it has kept for years.
func madeByTransport(st *status.Status) bool {
	if st.Code() == codes.Internal && st.Message() == "unexpected EOF" { // a handler's is UNKNOWN
		return true
	}
	prefixes := []string{
		"server closed the stream without sending trailers",
		"a HEADERS frame cannot appear in the middle of a stream",
		"transport: ",
	}
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(st.Message(), prefix) })
}

// saysPositionLost is the default of WithPositionLost.
func saysPositionLost(err error) bool {
	return errors.Is(err, ErrPositionLost) || rpcstatus.Of(err).Code() == codes.OutOfRange
}

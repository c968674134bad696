package stream

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Resumable reports whether a stream resumes by default after err has ended an attempt. It is the same when a stream is
// opened, in Resume, and later. Who made the error counts first, and then its code:
//
//	made by        kind of error               resumed
//	a gRPC server  UNAVAILABLE                 yes
//	               RESOURCE_EXHAUSTED,         if the server says when to try again
//	               ABORTED                     (RetryInfo or pushback)
//	               UNAUTHENTICATED             once in a row, if a server has accepted the stream before
//	               OUT_OF_RANGE                no: the position is lost, see Callbacks.Lost
//	               OK                          no: it is the end, see WithEndless
//	               any other code              no
//	transport      connection lost             yes
//	               RST_STREAM                  yes, except INADEQUATE_SECURITY
//	               HTTP 401, 403, 404          if a gRPC server has answered the stream before
//	               any other HTTP answer       yes
//	client         a context's end             yes: of a context that open or an interceptor has made
//	               credentials that fail       if a gRPC server has answered the stream before
//	               other, without a status     if a gRPC server has answered the stream before
//	this package   time limit, gap, denial     yes
//	callback       without a status            no
//	               with a status               as if a gRPC server had sent it
//
// If the server sends a pushback below zero (grpc-retry-pushback-ms, gRFC A6), no error is resumed. The end of the context
// that was given to Resilient is never resumed.
//
// [WithAlsoResumable] adds codes to the table. [WithResumable] replaces it. If a replacement does not decide about an
// error, let it call Resumable.
//
// Resumable sees only err. So it assumes that a gRPC server has answered the stream before, that UNAUTHENTICATED is not the
// first in a row, and that an error without a status is from a callback, unless it is the end of a context. It recognizes
// errors of grpc-go's transport by their text, because grpc-go marks them in no other way.
func Resumable(err error) bool {
	if err == nil {
		return false
	}
	plain := fromCallback
	if isContextEnd(rpcstatus.Of(err).Code()) {
		plain = fromClient
	}
	return resumes(originOf(err, plain), err, rpcstatus.HintOf(err, nil), facts{answered: true})
}

// origin is who made an error (invariant 33).
type origin uint8

const (
	fromServer    origin = iota // a gRPC server sent the status
	fromTransport               // grpc-go's transport made it: the connection, RST_STREAM, an answer that no gRPC server gave
	fromClient                  // this side of the connection: a context's end, credentials, an interceptor
	fromCallback                // the application, in a callback
	fromStream                  // this package: a time limit, a policy, a gap
)

// facts is what the table has to know of the stream.
type facts struct {
	answered bool         // a gRPC server has answered it before
	renewed  bool         // UNAUTHENTICATED may be tried with other credentials: it was accepted before, and this is the first
	also     []codes.Code // resumed, too
}

// originOf returns who made err. plain is who makes an error without a status where it comes from.
func originOf(err error, plain origin) origin {
	st, told := status.FromError(err)
	switch {
	case !told:
		return plain
	case isCredentials(st), st.Code() == codes.Canceled && st.Message() == context.Canceled.Error():
		return fromClient
	case madeByTransport(st):
		return fromTransport
	default:
		return fromServer
	}
}

// resumes is the table.
func resumes(made origin, err error, hint rpcstatus.Hint, f facts) bool {
	st := rpcstatus.Of(err)
	switch {
	case hint.Never:
		return false
	case made == fromStream:
		return true
	case made == fromCallback:
		return false
	case made == fromClient:
		return f.answered || isContextEnd(st.Code())
	case made == fromTransport:
		return !isInsecure(st) && (f.answered || !isWrongAddress(st))
	}
	switch st.Code() { //nolint:exhaustive // the others are the last word
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted, codes.Aborted:
		return hint.Given || slices.Contains(f.also, st.Code())
	case codes.Unauthenticated:
		return f.renewed || slices.Contains(f.also, st.Code())
	default:
		return slices.Contains(f.also, st.Code())
	}
}

func isContextEnd(code codes.Code) bool {
	return code == codes.DeadlineExceeded || code == codes.Canceled
}

// tellsOfContext reports whether an open has ended with its context: grpc says so, or what it was waiting for.
func tellsOfContext(st *status.Status) bool {
	text := st.Message()
	return isContextEnd(st.Code()) && (strings.HasPrefix(text, notReady) ||
		strings.Contains(text, context.DeadlineExceeded.Error()) || strings.Contains(text, context.Canceled.Error()))
}

// How grpc-go begins the texts of what it made itself.
const (
	notReady   = "latest balancer error: " // a context ended while there was no connection
	rstStream  = "stream terminated by RST_STREAM with error code: "
	httpAnswer = "unexpected HTTP status code received from server: "
	ofTheirOwn = "transport: per-RPC creds failed due to error: " // a token source
)

// madeByTransport reports whether grpc-go's transport made the status, for want of a server's trailers. The transport
// leaves no other mark than its own words, which it has kept for years.
func madeByTransport(st *status.Status) bool {
	text := st.Message()
	if strings.HasPrefix(text, rstStream) || strings.HasPrefix(text, httpAnswer) {
		return true
	}
	switch st.Code() { //nolint:exhaustive // see the comment
	case codes.Unavailable:
		return hasPrefix(text, "connection error: ", "error reading from server: ", "closing transport due to: ", "the connection is draining",
			"the stream is rejected because server is draining", "closing connection since ", "keepalive ping failed", "transport is closing")
	case codes.Internal, codes.Canceled, codes.Unknown: // whatever else it makes has one of these codes
	default:
		return false
	}
	if st.Code() == codes.Internal && text == "unexpected EOF" { // a handler's is UNKNOWN
		return true
	}
	return hasPrefix(text, "server closed the stream without sending trailers", "a HEADERS frame cannot appear in the middle of a stream",
		"malformed header: ", "transport: ")
}

func hasPrefix(text string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(text, prefix) })
}

// isInsecure reports whether the other end did not accept the encryption. That will not get better.
func isInsecure(st *status.Status) bool {
	return st.Code() == codes.PermissionDenied && strings.HasPrefix(st.Message(), rstStream)
}

// isWrongAddress reports whether what answered is no gRPC server and says 401, 403 or 404.
func isWrongAddress(st *status.Status) bool {
	answer, ok := strings.CutPrefix(st.Message(), httpAnswer)
	return ok && slices.ContainsFunc([]string{"401", "403", "404"}, func(code string) bool { return strings.HasPrefix(answer, code+" ") })
}

// isCredentials reports whether credentials could not be had.
func isCredentials(st *status.Status) bool {
	return strings.HasPrefix(st.Message(), ofTheirOwn) ||
		strings.HasPrefix(st.Message(), "transport: received per-RPC creds error with illegal status: ")
}

// saysPositionLost is the default of WithPositionLost, for what the server says.
func saysPositionLost(made origin, err error) bool {
	return errors.Is(err, ErrPositionLost) || made == fromServer && rpcstatus.Of(err).Code() == codes.OutOfRange
}

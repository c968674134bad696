package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// Complete says that nothing remains to be done, where a Resume callback returns it: the stream ends as if the server
// had ended it, with io.EOF, and nothing more is sent (invariant 14).
var Complete = errors.New("stream: nothing remains to be done") //nolint:errname,gochecknoglobals,staticcheck // not a failure, like io.EOF

// ErrPositionLost says that the server no longer has what comes after the position, where a Resume callback returns or
// wraps it: the Lost callback is asked.
var ErrPositionLost = errors.New("stream: the server no longer has the position")

// ErrClosed is the cause of the error of a stream that was ended by Close.
var ErrClosed = errors.New("stream: closed by the application")

// Reason says why a stream ended, or why one message was refused.
type Reason uint8

const (
	// ReasonUnknown is the zero Reason; no error of this package has it.
	ReasonUnknown Reason = iota
	// ReasonServer is the server's last word, or the client connection's. The cause is its status.
	ReasonServer
	// ReasonContext is the end of the application's context: cancelled, or past its deadline.
	ReasonContext
	// ReasonClosed is a call of Close.
	ReasonClosed
	// ReasonPolicy means that the stream policies gave up, or denied the stream.
	ReasonPolicy
	// ReasonResumeOff means that the attempt was lost and resuming is turned off (WithoutResume).
	ReasonResumeOff
	// ReasonMaxOutage means that an outage lasted longer than WithMaxOutage allows.
	ReasonMaxOutage
	// ReasonNoCheckpoint means that the attempt was lost after a message had been delivered, there is no Checkpoint
	// callback, and WithRestart does not say that starting over is right.
	ReasonNoCheckpoint
	// ReasonSendsInDoubt means that the attempt was lost after a Send, and neither WithReplay nor WithAtMostOnceSends says
	// what to do about it.
	ReasonSendsInDoubt
	// ReasonPositionLost means that the server no longer has the position, or that its history was replaced.
	ReasonPositionLost
	// ReasonGap means that a sequence number was missing, and still is after a resume (WithGapDetection).
	ReasonGap
	// ReasonPoison means that too many attempts in a row died at the same position (WithPoisonLimit).
	ReasonPoison
	// ReasonProtocol means that the server broke the application's protocol, as by acknowledging what was never sent.
	ReasonProtocol
	// ReasonHeldOverflow means that more bytes than allowed came without a position (HoldUntilCheckpoint).
	ReasonHeldOverflow
	// ReasonResume means that the Resume, Replay or Lost callback failed.
	ReasonResume
	// ReasonFenced means that another owner has acquired the key in the store.
	ReasonFenced
	// ReasonStore means that the store failed: at the start, or in Commit or Close.
	ReasonStore
	// ReasonWindowFull means that this Send was refused: the replay buffer is full (ReplayLimits.FailWhenFull).
	ReasonWindowFull
	// ReasonMessage means that this one message was refused: its type, size, encoding or sequence number is wrong.
	ReasonMessage
	// ReasonUnacked means that the server ended the stream with OK and has not acknowledged everything that was sent: see
	// [ClientStream.Unacked], and WithOKAcknowledges if OK says that it has it.
	ReasonUnacked
	// ReasonOptions means that the options or arguments do not fit together, or do not fit what was called.
	ReasonOptions
)

// String returns the reason in words.
func (r Reason) String() string {
	texts := [...]string{
		ReasonUnknown: "unknown reason", ReasonServer: "ended by the server", ReasonContext: "context done",
		ReasonClosed: "closed", ReasonPolicy: "policies gave up", ReasonResumeOff: "resuming is off",
		ReasonMaxOutage: "outage too long", ReasonNoCheckpoint: "no checkpoint to resume from",
		ReasonSendsInDoubt: "sends in doubt", ReasonPositionLost: "position lost", ReasonGap: "gap in the sequence",
		ReasonPoison: "poisoned position", ReasonProtocol: "protocol broken", ReasonHeldOverflow: "too much held",
		ReasonResume: "callback failed", ReasonFenced: "fenced by another owner", ReasonStore: "store failed",
		ReasonWindowFull: "replay buffer full", ReasonMessage: "message refused",
		ReasonUnacked: "not everything is acknowledged", ReasonOptions: "wrong options",
	}
	if int(r) >= len(texts) {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return texts[r]
}

// Error is every error of this package but io.EOF.
//
// status.Code and status.FromError see the status that GRPCStatus returns; errors.Is and errors.As see the cause.
type Error struct {
	// Op is what failed: "open", "resume", "replay", "send", "recv", "commit" or "close".
	Op string
	// Reason says why.
	Reason Reason
	// Attempts is how many attempts the stream had made.
	Attempts uint64
	// Cause is what lies behind it. It may be nil.
	Cause error
}

// Error says what failed, why, and the cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("stream: %s: %s (attempts: %d)", e.Op, e.Reason, e.Attempts)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus returns the status of the cause: a server's own, or what a policy's error stands for (breaker open:
// UNAVAILABLE; limiter or bulkhead: RESOURCE_EXHAUSTED; timeout: DEADLINE_EXCEEDED; retries exceeded: the last
// failure's). Where the cause has none, the reason gives the code.
func (e *Error) GRPCStatus() *status.Status {
	if done, ok := errors.AsType[*doneError](e.Cause); ok && e.Reason == ReasonContext {
		return status.New(status.FromContextError(done.err).Code(), e.Error())
	}
	code, ofItsOwn := e.Reason.code()
	if st := rpcstatus.Of(e.Cause); !ofItsOwn && st.Code() != codes.OK && st.Code() != codes.Unknown {
		return st
	}
	return status.New(code, e.Error())
}

// code returns the status code of a reason: one of its own, or one for a cause that has none.
func (r Reason) code() (code codes.Code, ofItsOwn bool) {
	switch r {
	case ReasonClosed:
		return codes.Canceled, true
	case ReasonPositionLost:
		return codes.OutOfRange, true
	case ReasonGap, ReasonUnacked:
		return codes.DataLoss, true
	case ReasonProtocol:
		return codes.Internal, true
	case ReasonHeldOverflow, ReasonWindowFull:
		return codes.ResourceExhausted, true
	case ReasonFenced:
		return codes.Aborted, true
	case ReasonOptions:
		return codes.InvalidArgument, true
	case ReasonMessage:
		return codes.InvalidArgument, false
	case ReasonMaxOutage, ReasonStore:
		return codes.Unavailable, false
	case ReasonUnknown, ReasonServer, ReasonContext, ReasonPolicy, ReasonResumeOff, ReasonNoCheckpoint,
		ReasonSendsInDoubt, ReasonPoison, ReasonResume:
		return codes.Unknown, false
	default:
		return codes.Unknown, false
	}
}

// attemptError is how an attempt ended, as policies see it: the failure of one try of an outage.
type attemptError struct {
	op     string
	cause  error
	hint   rpcstatus.Hint
	final  bool   // the stream is not to be resumed
	reason Reason // why not; set where final is
	well   bool   // the server said OK, or Resume that nothing remains

	planned bool          // the stream is resumed, and nothing has failed
	ceiling time.Duration // the most that the backoff may come to before the next attempt; zero: no limit
}

// MaxBackoff implements backoff.Capped: an attempt that brought something new lasted some time, and a server that restarts often
// is not to be waited for longer than that, or than a second.
func (e *attemptError) MaxBackoff() time.Duration { return e.ceiling }

func (e *attemptError) Error() string { return e.op + ": " + e.cause.Error() }

func (e *attemptError) Unwrap() error { return e.cause }

// GRPCStatus lets policies' predicates use status.Code.
func (e *attemptError) GRPCStatus() *status.Status { return rpcstatus.Of(e.cause) }

// ended returns the error that the application gets for a final attemptError: io.EOF bare, everything else in an Error.
func (e *attemptError) ended(attempts uint64) error {
	if e.well {
		return io.EOF
	}
	return &Error{Op: e.op, Reason: e.reason, Attempts: attempts, Cause: withoutEOF(e.cause)}
}

// withoutEOF returns err so that errors.Is does not find io.EOF in it: that would say that the stream has ended with OK.
func withoutEOF(err error) error {
	if err == nil || !errors.Is(err, io.EOF) {
		return err
	}
	return notEOFError{err}
}

// notEOFError is an error that has to do with io.EOF, and is not the end of the stream.
type notEOFError struct{ error }

// Is denies io.EOF.
func (e notEOFError) Is(target error) bool { return target != io.EOF && errors.Is(e.error, target) }

// As looks further.
func (e notEOFError) As(target any) bool { return errors.As(e.error, target) }

// cutError is the end of an attempt that a policy, or WithMaxOutage, has cut short. It is not the application's cancel,
// and does not look like it (invariant 30).
type cutError struct{ by string }

func cutBy(cause error) error { return &cutError{by: cause.Error()} }

func (e *cutError) Error() string { return "cut short: " + e.by }

// GRPCStatus is UNAVAILABLE.
func (e *cutError) GRPCStatus() *status.Status { return status.New(codes.Unavailable, e.Error()) }

// limitError is the end of an attempt by a time limit of this package.
type limitError struct {
	what  string
	limit time.Duration
}

func (e *limitError) Error() string { return fmt.Sprintf("%s within %v", e.what, e.limit) }

// GRPCStatus is DEADLINE_EXCEEDED.
func (e *limitError) GRPCStatus() *status.Status {
	return status.New(codes.DeadlineExceeded, e.Error())
}

// doneError is the end of a stream by the application's context. What the context says gives the status code; the
// cause it was cancelled with may be anything, another stream's end too.
type doneError struct {
	err, cause error
	last       error // what the outage was about that the stream was in; nil if it was in none
}

func (e *doneError) Error() string {
	text := e.err.Error()
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	if e.last != nil {
		text += " (last: " + e.last.Error() + ")"
	}
	return text
}

// Unwrap returns both.
func (e *doneError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.err}
	}
	return []error{e.err, e.cause}
}

func contextError(ctx context.Context) *doneError {
	done := &doneError{err: ctx.Err()}
	if cause := context.Cause(ctx); !errors.Is(cause, done.err) {
		done.cause = cause
	}
	return done
}

// gapError is a hole in the sequence: got came after have.
type gapError struct{ have, got uint64 }

func (e gapError) Error() string {
	return fmt.Sprintf("sequence number %d came after %d", e.got, e.have)
}

// lineageError is a change of the history that sequence numbers count in (invariant 17).
type lineageError struct{ have, got string }

func (e *lineageError) Error() string {
	return fmt.Sprintf("lineage %q was replaced by %q", e.have, e.got)
}

// Is makes it match ErrPositionLost.
func (e *lineageError) Is(target error) bool { return target == ErrPositionLost }

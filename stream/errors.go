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

// Complete is returned by a Resume or Request callback, or by Callbacks.Err, if nothing remains. Nothing more is sent, and
// the stream ends as if the server had ended it with OK. WithEndless does not change that.
var Complete = errors.New("stream: nothing remains to be done") //nolint:errname,gochecknoglobals,staticcheck // not a failure, like io.EOF

// ErrPositionLost is returned by a Resume callback, or by Callbacks.Err, if the server no longer has what follows the
// position. It may be wrapped. Then Callbacks.Lost decides.
var ErrPositionLost = errors.New("stream: the server no longer has the position")

// ErrClosed is the cause of the error of a stream that Close has ended.
var ErrClosed = errors.New("stream: closed by the application")

// Reason says why a stream ended, or why one call failed. docs/troubleshooting.md says what to do about each.
type Reason uint8

const (
	// ReasonUnknown is the zero Reason. No error of this package has it.
	ReasonUnknown Reason = iota
	// ReasonServer means that the stream was ended by an error that is not resumed: a status of the server, or an error
	// of the client's connection. The cause is that error. See [Resumable], WithAlsoResumable and WithResumable.
	ReasonServer
	// ReasonContext means that the context is done, cancelled or past its deadline: the one given to Resilient, to Flush, or to Wait of a receipt.
	ReasonContext
	// ReasonClosed means that the application called Close.
	ReasonClosed
	// ReasonPolicy means that a policy gave up or denied the attempt. See WithStreamPolicies and WithOpenPolicies.
	ReasonPolicy
	// ReasonResumeOff means that the attempt was lost, and WithoutResume does not allow another one.
	ReasonResumeOff
	// ReasonMaxOutage means that an outage lasted longer than WithMaxOutage allows.
	ReasonMaxOutage
	// ReasonNoCheckpoint means that the attempt was lost after messages had arrived, and that there is no position to
	// resume from. Set Callbacks.Checkpoint, or use WithRestart if starting over loses nothing.
	ReasonNoCheckpoint
	// ReasonSendsInDoubt means that the attempt was lost after a Send, and nobody knows whether the server has the
	// message. Use WithReplay or WithAtMostOnceSends. If Send returns it, the message counts as sent.
	ReasonSendsInDoubt
	// ReasonPositionLost means that the server no longer has what follows the position, or that its history was replaced
	// by another one. See Callbacks.Lost.
	ReasonPositionLost
	// ReasonGap means that a sequence number was missing, and still was after a resume. See WithGapDetection.
	ReasonGap
	// ReasonPoison means that too many attempts in a row died at the same place. See WithPoisonLimit.
	ReasonPoison
	// ReasonProtocol means that the server broke the protocol. For example, it acknowledged a message that was never sent.
	ReasonProtocol
	// ReasonHeldOverflow means that too much arrived without a position. See HoldUntilCheckpoint.
	ReasonHeldOverflow
	// ReasonResume means that Resume, Replay, Lost or another callback failed.
	ReasonResume
	// ReasonFenced means that another stream has acquired the key in the store. See WithStore.
	ReasonFenced
	// ReasonStore means that the store failed: when the stream was opened, in Commit or in Close.
	ReasonStore
	// ReasonWindowFull means that Send was refused because the replay buffer is full, or there are too many keys. The stream
	// goes on. See ReplayLimits and WithKeyLimits.
	ReasonWindowFull
	// ReasonMessage means that one message was refused: its type, size, encoding or sequence number is wrong.
	ReasonMessage
	// ReasonUnacked means that the server ended the stream with OK and has not acknowledged everything that was sent. See
	// [ClientStream.Unacked]. Use WithOKAcknowledges if OK means that the server has it.
	ReasonUnacked
	// ReasonSuperseded means that the server has ended the stream because another client has opened an attempt with the same
	// stream id. See [WithResumeMetadata].
	ReasonSuperseded
	// ReasonDenied means that a policy for messages has denied one Send or one Recv. Nothing was sent or received by it, and
	// the stream goes on. See [WithSendPolicies] and [WithRecvPolicies].
	ReasonDenied
	// ReasonOptions means that options, callbacks or arguments contradict each other, or that a method needs an option or
	// a callback that was not given.
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
		ReasonUnacked: "not everything is acknowledged", ReasonSuperseded: "superseded by another client",
		ReasonDenied:  "denied by a policy",
		ReasonOptions: "wrong options",
	}
	if int(r) >= len(texts) {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return texts[r]
}

// Error is the type of all errors that a [ClientStream] and Resilient return, except io.EOF.
//
// To act on it, use errors.As and look at Reason. status.Code and status.FromError see the status that GRPCStatus
// returns. errors.Is and errors.As see the cause. What each text means, and what to do, is in docs/troubleshooting.md.
type Error struct {
	// Op is what failed: "open", "resume", "replay", "send", "recv", "flush", "receipt", "commit" or "close".
	Op string
	// Reason says why.
	Reason Reason
	// Attempts is the number of attempts that the stream had made.
	Attempts uint64
	// Cause is the error behind this one. It may be nil.
	Cause error
}

// Error returns what failed, why, the number of attempts, and the cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("stream: %s: %s (attempts: %d)", e.Op, e.Reason, e.Attempts)
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if decides := e.Reason.decides(); decides != "" {
		text += " (see " + decides + ")"
	}
	return text
}

// decides returns the names of what decides whether a stream ends for this reason, empty if nothing does.
func (r Reason) decides() string {
	switch r { //nolint:exhaustive // nothing decides about the others
	case ReasonPolicy:
		return "WithStreamPolicies and WithOpenPolicies"
	case ReasonDenied:
		return "WithSendPolicies and WithRecvPolicies"
	case ReasonResumeOff:
		return "WithoutResume"
	case ReasonMaxOutage:
		return "WithMaxOutage"
	case ReasonNoCheckpoint:
		return "Callbacks.Checkpoint, or WithRestart"
	case ReasonSendsInDoubt:
		return "WithReplay, or WithAtMostOnceSends"
	case ReasonPositionLost:
		return "Callbacks.Lost"
	case ReasonGap:
		return "WithGapDetection"
	case ReasonPoison:
		return "WithPoisonLimit"
	case ReasonHeldOverflow:
		return "HoldUntilCheckpoint"
	case ReasonWindowFull:
		return "WithReplay, or WithKeyLimits"
	case ReasonUnacked:
		return "Unacked, Flush and WithOKAcknowledges"
	default:
		return ""
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus returns the status of the error. Some reasons have a code of their own:
//
//	ReasonClosed                          CANCELLED
//	ReasonPositionLost                    OUT_OF_RANGE
//	ReasonGap, ReasonUnacked              DATA_LOSS
//	ReasonProtocol                        INTERNAL
//	ReasonHeldOverflow, ReasonWindowFull  RESOURCE_EXHAUSTED
//	ReasonFenced, ReasonSuperseded        ABORTED
//	ReasonOptions                         INVALID_ARGUMENT
//
// With ReasonContext it is CANCELLED or DEADLINE_EXCEEDED. Otherwise it is the status of the cause: the server's own, or
// what a policy's error stands for. An open circuit breaker is UNAVAILABLE. A limiter, bulkhead or budget that denies is
// RESOURCE_EXHAUSTED. A timeout is DEADLINE_EXCEEDED. Exceeded retries have the status of the last failure. If the cause
// has no status, ReasonMessage is INVALID_ARGUMENT, ReasonMaxOutage and ReasonStore are UNAVAILABLE, and all others are
// UNKNOWN.
func (e *Error) GRPCStatus() *status.Status {
	if done, ok := errors.AsType[*doneError](e.Cause); ok && e.Reason == ReasonContext {
		return status.New(status.FromContextError(done.err).Code(), e.Error())
	}
	code, ofItsOwn := e.Reason.code()
	if st := rpcstatus.Of(e.Cause); !ofItsOwn && st.Code() != codes.OK && (st.Code() != codes.Unknown || e.Reason == ReasonServer && carriesStatus(e.Cause)) {
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
	case ReasonFenced, ReasonSuperseded:
		return codes.Aborted, true
	case ReasonOptions:
		return codes.InvalidArgument, true
	case ReasonMessage:
		return codes.InvalidArgument, false
	case ReasonMaxOutage, ReasonStore:
		return codes.Unavailable, false
	case ReasonUnknown, ReasonServer, ReasonContext, ReasonPolicy, ReasonResumeOff, ReasonNoCheckpoint,
		ReasonSendsInDoubt, ReasonPoison, ReasonResume, ReasonDenied:
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
	dead  bool // the connection was, too
}

func (e *limitError) Error() string {
	if e.dead {
		return fmt.Sprintf("%s within %v, and the connection is dead: it did not answer a probe", e.what, e.limit)
	}
	return fmt.Sprintf("%s within %v", e.what, e.limit)
}

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

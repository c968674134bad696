package stream

import (
	"errors"
	"fmt"
	"time"

	"github.com/streamsafe/streamsafe/internal/backoff"
)

// Rotate is returned by Callbacks.Err for a message with which the server announces that it will close the attempt. It may be
// wrapped. The message is taken in like any other: Acked, Checkpoint and Control see it. If it is not for the application, let
// Control return true.
//
// The stream then opens the next attempt while the current one still works, and changes over: a planned rotation, see
// [WithMaxAge]. If the server closes the attempt before that, with OK, with an error that is resumed, or because the connection
// ends, that is a planned close: the stream resumes after a jittered wait, and policies do not see a failure.
//
// With WithoutResume, Rotate has no effect.
var Rotate = errors.New("stream: the server announces that it will close the attempt") //nolint:errname,gochecknoglobals,staticcheck // as Complete

// WithMaxAge limits the age of an attempt to d, less a random part of up to jitter. So the streams of a fleet move to new
// servers, and not all at the same time. Default, and zero or less for d: no limit. A jitter below zero, and one that is not
// shorter than d, are errors.
//
// A client replaces the attempt when it has been attached for so long: planned rotation. WithMaxAge and WithoutResume exclude
// each other there. The next attempt is opened, Resume included, while the old one still works. Sends wait meanwhile:
//
//  1. For up to 5 s, messages that were sent can still be acknowledged, and the stream waits for a message with a position.
//  2. For up to 5 s, the next attempt is opened, under the open policies. Recv waits, too.
//  3. The old attempt is cancelled. What is still not acknowledged is sent again, if WithReplay keeps it.
//
// That is no outage. Stream policies see no failure, and the state is Rotating. If the next attempt cannot be opened, the old
// one goes on, and the stream tries again after 0.5 to 1 s, and then after waits that double up to a minute. If the old attempt
// is lost before the next one is opened, that is a loss like any other.
//
// The safe defaults apply. An attempt is not replaced if that would end the stream after a break: with ReasonNoCheckpoint, or
// with ReasonSendsInDoubt. With Callbacks.Acked, no message is in doubt if all are acknowledged. With WithAtMostOnceSends and
// without Callbacks.Acked, the last messages before a rotation may be lost; the stream leaves the server 250 ms to read them.
// Without HoldUntilCheckpoint, messages after the last position may come again, if no position comes within the 5 s.
//
// See [RotatingObserver], [RotatedObserver], [RotationPutOffObserver] and [Stats].Rotations.
func WithMaxAge(d, jitter time.Duration) Option {
	age := maxAge{most: d, jitter: jitter}
	return option{func(o *clientOptions) { o.age = age }, func(o *serverOptions) { o.age = age }}
}

// maxAge is how long an attempt lives: most, less a random part of up to jitter. A most of zero or less is no limit.
type maxAge struct{ most, jitter time.Duration }

// draw returns an age for one attempt.
func (a maxAge) draw() time.Duration { return a.most - backoff.UpTo(a.jitter) }

func (a maxAge) validate(refuse refusal) {
	refuse(a.jitter < 0 || a.most > 0 && a.jitter >= a.most,
		"WithMaxAge needs a jitter from zero to less than the age of %v, not %v", a.most, a.jitter)
}

// agedError is why an attempt is replaced that has reached its age.
type agedError struct{ age time.Duration }

func (e *agedError) Error() string {
	return fmt.Sprintf("the attempt has reached its age of %v", e.age)
}

// Is makes it match Rotate: the attempt is replaced as planned.
func (e *agedError) Is(target error) bool { return target == Rotate }

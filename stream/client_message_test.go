package stream_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/stream"
)

// exhausted are policies that deny, each by the error that follows it.
func exhausted() map[string]struct {
	policy failsafe.Policy[any]
	denial error
	code   codes.Code
} {
	type denier = struct {
		policy failsafe.Policy[any]
		denial error
		code   codes.Code
	}
	rate := ratelimiter.NewSmoothBuilderWithMaxRate[any](time.Hour).WithMaxWaitTime(time.Second).Build()
	rate.TryAcquirePermit()
	full := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Second).Build()
	full.TryAcquirePermit()
	open := stream.NewCircuitBreakerBuilder().WithDelay(time.Hour).Build()
	open.Open()
	limited := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).Build()
	limited.TryAcquirePermit()
	ranked := adaptivelimiter.NewBuilder[any]().WithLimits(1, 1, 1).WithMaxWaitTime(time.Second).
		BuildPrioritized(adaptivelimiter.NewPrioritizer())
	_, _ = ranked.AcquirePermitWithMaxWait(context.Background(), 0)
	throttled := adaptivethrottler.NewBuilder[any]().WithFailureRateThreshold(0, 1, time.Hour).WithMaxRejectionRate(1).Build()
	for range 100_000 {
		throttled.RecordFailure() // 99,999 of 100,000 are rejected
	}
	return map[string]denier{
		"rate limiter":        {rate, ratelimiter.ErrExceeded, codes.ResourceExhausted},
		"bulkhead":            {full, bulkhead.ErrFull, codes.ResourceExhausted},
		"circuit breaker":     {open, circuitbreaker.ErrOpen, codes.Unavailable},
		"adaptive limiter":    {limited, adaptivelimiter.ErrExceeded, codes.ResourceExhausted},
		"prioritized limiter": {ranked, adaptivelimiter.ErrExceeded, codes.ResourceExhausted},
		"throttler":           {throttled, adaptivethrottler.ErrExceeded, codes.ResourceExhausted},
	}
}

// A denial is an error of one call. It takes no message, moves no position, uses no number and breaks nothing, in either direction,
// with permits and with an executor.
func TestADenialIsAnErrorOfOneCall(t *testing.T) {
	t.Parallel()
	names := []string{"rate limiter", "bulkhead", "circuit breaker", "adaptive limiter", "prioritized limiter", "throttler"}
	for _, name := range names {
		for _, form := range []string{"permits", "executor", "own executor"} {
			t.Run(name+", "+form, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					d := exhausted()[name]
					policies := []failsafe.Policy[any]{d.policy}
					if form == "executor" {
						policies = append(policies, timeout.New[any](time.Hour))
					}
					var send, recv stream.ClientOption = stream.WithSendPolicies(policies...), stream.WithRecvPolicies(policies...)
					if form == "own executor" {
						send, recv = stream.WithSendExecutor(failsafe.With(policies...)), stream.WithRecvExecutor(failsafe.With(policies...))
					}
					w := newWorld(t, &feed{total: 3})
					s := w.mustOpen(withReplay(), recv)
					_, err := s.Recv()
					wantEnd(t, err, stream.ReasonDenied, d.code, name)
					require.ErrorIs(t, err, d.denial)
					require.Zero(t, s.Stats().Delivered)
					require.NotEqual(t, stream.Closed, s.State())
					require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()), "the other direction")
					_, err = s.Recv()
					requireReason(t, err, stream.ReasonDenied, "again")

					s = w.mustOpen(withReplay(), send)
					err = s.Send(frame{kind: data, seq: 2}.request())
					wantEnd(t, err, stream.ReasonDenied, d.code, name)
					require.ErrorIs(t, err, d.denial)
					if form != "own executor" && name == "circuit breaker" {
						require.NotEmpty(t, status.Convert(err).Details(), "when to come back")
					}
					require.Zero(t, s.Stats().Sent)
					mustReceive(t, s, 1, 2, 3)
				})
			})
		}
	}
}

// The wait for a permit ends with the stream, and then Recv tells of the end.
func TestTheWaitForAPermitEndsWithTheStream(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"permits", "executor"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				full := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
				require.True(t, full.TryAcquirePermit())
				other := bulkhead.NewBuilder[any](1).WithMaxWaitTime(time.Hour).Build()
				require.True(t, other.TryAcquirePermit())
				sends, recvs := []failsafe.Policy[any]{full}, []failsafe.Policy[any]{other}
				if form == "executor" {
					sends, recvs = append(sends, timeout.New[any](2*time.Hour)), append(recvs, timeout.New[any](2*time.Hour))
				}
				s := scripted(t, stays(numbered(1)...)).mustDial(positions(), stream.WithAtMostOnceSends(),
					stream.WithSendPolicies(sends...), stream.WithRecvPolicies(recvs...))
				recv, send := blocked(s)
				time.Sleep(time.Second)
				require.NoError(t, s.Close())
				requireReason(t, <-recv, stream.ReasonClosed, "Recv")
				requireReason(t, <-send, stream.ReasonClosed, "Send")
			})
		})
	}
}

// A timeout gives up the attempt, and the stream resumes. What arrives at the same moment is delivered, once.
func TestATimeoutOnRecvResumes(t *testing.T) {
	t.Parallel()
	for late := 900 * time.Millisecond; late <= 1100*time.Millisecond; late += 10 * time.Millisecond {
		t.Run(late.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{total: 20})
				serve := w.feed.serve
				w.feed.handler = inOrder(func(s bidi) error {
					if _, err := s.Recv(); err != nil {
						return err
					}
					if err := s.Send(frame{kind: hello}.response()); err != nil {
						return err
					}
					for _, seq := range upTo(3) {
						time.Sleep(late)
						if err := s.Send(frame{kind: data, seq: seq}.response()); err != nil {
							return err
						}
					}
					<-s.Context().Done()
					return s.Context().Err()
				}, serve)
				s := w.mustOpen(withReplay(), stream.WithRecvPolicies(timeout.New[any](time.Second)))
				require.NoError(t, s.CloseSend())
				mustReceive(t, s, upTo(20)...)
				_, err := s.Recv()
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, uint64(2), s.Stats().Attempts)
				rest(2 * time.Second) // the first handler does not look at its context while it waits
			})
		})
	}
}

// A Send whose timeout passes before it has its turn has sent nothing. One that the transport does not take gives the attempt up.
func TestATimeoutOnSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := scripted(t, stays()).mustDial(acking(), stream.WithReplay(stream.ReplayLimits{Messages: 1}),
			stream.WithSendPolicies(timeout.New[any](time.Second)))
		mustSend(t, s, 1, 1)
		for range 3 {
			began := time.Now()
			err := s.Send(frame{kind: data, seq: 2}.request())
			wantEnd(t, err, stream.ReasonDenied, codes.DeadlineExceeded, "there is no room")
			require.ErrorIs(t, err, timeout.ErrExceeded)
			require.Equal(t, time.Second, time.Since(began))
		}
		require.Equal(t, uint64(1), s.Stats().LastSeq)
		require.Equal(t, uint64(1), s.Stats().Attempts)
	})
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		w := scripted(t, stays(), reads(&got))
		s := w.mustDial(acking(), withReplay(), stream.WithSendPolicies(timeout.New[any](time.Second)))
		for seq := range uint64(20) {
			require.NoError(t, s.Send(frame{kind: data, seq: seq + 1, size: 16 << 10}.request()), "kept")
		}
		require.NoError(t, s.CloseSend())
		_ = drain(s)
		require.Equal(t, upTo(20), got, "invariant 34: each once, in order")
		require.Equal(t, uint64(2), s.Stats().Attempts)
	})
}

// What a breaker learns: a message is a success and so is io.EOF, a break by the server is a failure, and the application's own end
// is neither (invariants 37 and 38).
func TestWhatABreakerLearnsOfMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := scripted(t, sends(status.Error(codes.Unavailable, "down"), numbered(1, 2)...),
			sends(status.Error(codes.Internal, "oops"), numbered(3)...), sends(nil, numbered(4)...))
		b := stream.NewCircuitBreakerBuilder().WithFailureThresholdRatio(20, 20).Build()
		s := w.mustDial(positions(), stream.WithAlsoResumable(codes.Internal), stream.WithRecvPolicies(b))
		mustReceive(t, s, 1, 2, 3, 4)
		_, err := s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, uint(5), b.Metrics().Successes(), "four messages, and the end")
		require.Equal(t, uint(2), b.Metrics().Failures(), "two breaks")
	})
	synctest.Test(t, func(t *testing.T) {
		b := stream.NewCircuitBreakerBuilder().WithSuccessThreshold(1).WithDelay(time.Second).Build()
		b.HalfOpen()
		s := scripted(t, stays()).mustDial(positions(), stream.WithRecvPolicies(b))
		ended := receiving(s)
		time.Sleep(time.Second)
		require.NoError(t, s.Close())
		requireReason(t, <-ended, stream.ReasonClosed, "Recv")
		require.True(t, b.IsHalfOpen(), "no verdict")
		require.True(t, b.TryAcquirePermit(), "and the permit is used again")
	})
	synctest.Test(t, func(t *testing.T) {
		b := stream.NewCircuitBreakerBuilder().WithFailureThreshold(1).WithDelay(5 * time.Second).WithSuccessThreshold(1).Build()
		w := scripted(t, lasts(time.Second, status.Error(codes.Unavailable, "down"), numbered(1)...), sends(nil, numbered(2, 3)...))
		s := w.mustDial(positions(), stream.WithRecvPolicies(b))
		mustReceive(t, s, 1, 2)
		_, err := s.Recv()
		wantEnd(t, err, stream.ReasonDenied, codes.Unavailable, "it is open")
		time.Sleep(6 * time.Second)
		mustReceive(t, s, 3)
		require.True(t, b.IsClosed())
	})
}

// What would repeat, invent or hide messages, or wait for itself, is refused.
func TestWrongPoliciesForMessages(t *testing.T) {
	t.Parallel()
	one, limiter := bulkhead.New[any](1), adaptivelimiter.NewWithDefaults[any]()
	for name, c := range map[string]struct {
		opts []stream.ClientOption
		text string
	}{
		"hedge":       {[]stream.ClientOption{stream.WithRecvPolicies(hedgepolicy.NewWithDelay[any](time.Second))}, "hedgepolicy has no place in WithRecvPolicies"},
		"retry":       {[]stream.ClientOption{stream.WithSendPolicies(retrypolicy.NewWithDefaults[any]())}, "retrypolicy has no place in WithSendPolicies"},
		"cache":       {[]stream.ClientOption{stream.WithRecvPolicies(cachepolicy.New[any](nil))}, "cachepolicy has no place"},
		"fallback":    {[]stream.ClientOption{stream.WithSendPolicies(fallback.NewWithResult[any](nil))}, "fallback has no place"},
		"nil":         {[]stream.ClientOption{stream.WithSendPolicies(nil...)}, "has no policy"},
		"a nil":       {[]stream.ClientOption{stream.WithSendPolicies(one, nil)}, "is nil"},
		"no executor": {[]stream.ClientOption{stream.WithRecvExecutor(nil)}, "has no policy"},
		"one bulkhead": {
			[]stream.ClientOption{stream.WithSendPolicies(one), stream.WithRecvPolicies(timeout.New[any](1), one)}, "is in WithRecvPolicies, too",
		},
		"one adaptive limiter": {[]stream.ClientOption{stream.WithSendPolicies(limiter), stream.WithRecvPolicies(limiter)}, "is in WithRecvPolicies, too"},
		"twice":                {[]stream.ClientOption{stream.WithSendPolicies(one, one)}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, err := scripted(t, stays()).dial(t.Context(), positions(), c.opts...)
				requireReason(t, err, stream.ReasonOptions, name)
				require.ErrorContains(t, err, c.text)
			})
		})
	}
}

// An executor that answers in place of the stream hides nothing, and one that tries again repeats nothing.
func TestExecutorsThatAnswerOrTryAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		open := circuitbreaker.NewWithDefaults[any]()
		open.Open()
		answers := failsafe.With[any](fallback.NewWithResult[any](&response{}), open)
		w := newWorld(t, &feed{total: 2})
		s := w.mustOpen(withReplay(), stream.WithSendExecutor(answers), stream.WithRecvExecutor(answers))
		requireReason(t, s.Send(frame{kind: data, seq: 1}.request()), stream.ReasonDenied, "Send")
		_, err := s.Recv()
		requireReason(t, err, stream.ReasonDenied, "Recv")
		require.ErrorContains(t, err, "did not call the stream")

		again := failsafe.With[any](retrypolicy.NewBuilder[any]().HandleIf(func(any, error) bool { return true }).WithMaxRetries(3).Build())
		s = w.mustOpen(withReplay(), stream.WithSendExecutor(again), stream.WithRecvExecutor(again))
		require.NoError(t, s.Send(frame{kind: data, seq: 1}.request()))
		require.NoError(t, s.CloseSend())
		mustReceive(t, s, 1, 2)
		_, err = s.Recv()
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, upTo(1), w.feed.stored)
		require.Equal(t, upTo(1), w.feed.seen)
	})
}

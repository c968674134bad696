package stream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// outages are what may keep a stream from its server, and the words that the application has to read.
func outages() map[string]struct {
	dial  []grpc.DialOption
	words string
} {
	return map[string]struct {
		dial  []grpc.DialOption
		words string
	}{
		"refused": {nil, "connection refused"},
		"wrong host": {[]grpc.DialOption{grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "feed.example", IsNotFound: true}
		})}, "lookup feed.example: no such host"},
		"TLS against plain text": {
			[]grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}))}, //nolint:gosec // nobody is there
			"first record does not look like a TLS handshake",
		},
	}
}

// A context that ends during an outage says what the outage was about, with the Op that was waiting.
func TestTheEndOfAContextDuringAnOutage(t *testing.T) {
	t.Parallel()
	for name, outage := range outages() {
		for how, call := range map[string]grpc.CallOption{"fail fast": grpc.WaitForReady(false), "wait for ready": grpc.WaitForReady(true)} {
			t.Run("open, "+name+", "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{handler: stays()}, outage.dial...)
					w.Refuse(name == "refused")
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					_, err := w.dial(ctx, acking(), stream.WithCallOptions(call))
					wantEnd(t, err, stream.ReasonContext, codes.DeadlineExceeded, "open")
					require.Equal(t, "open", opOf(err))
					require.ErrorContains(t, err, "(last: ")
					require.ErrorContains(t, err, outage.words)
					require.ErrorIs(t, err, context.DeadlineExceeded)
				})
			})
		}
	}
	for how, call := range map[string]grpc.CallOption{"fail fast": grpc.WaitForReady(false), "wait for ready": grpc.WaitForReady(true)} {
		for who, ends := range map[string]func(cancel func()){"cancelled": func(cancel func()) { cancel() }, "past its deadline": func(func()) { rest(time.Minute) }} {
			t.Run("recv and send, "+how+", "+who, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, &feed{handler: stays()})
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					s, err := w.dial(ctx, acking(), stream.WithAtMostOnceSends(), stream.WithCallOptions(call))
					require.NoError(t, err)
					recv, send := blocked(s)
					rest(time.Minute)
					w.Refuse(true)
					w.Cut(testnet.RST)
					rest(20 * time.Second)
					ends(cancel)
					synctest.Wait()
					for op, ended := range map[string]<-chan error{"recv": recv, "send": send} {
						err := <-ended
						requireReason(t, err, stream.ReasonContext, op)
						require.Equal(t, op, opOf(err))
						require.ErrorContains(t, err, "(last: ", op)
						require.ErrorContains(t, err, map[bool]string{true: "connection refused", false: ""}[how == "fail fast"], op)
						require.ErrorIs(t, err, ctx.Err())
					}
				})
			})
		}
	}
	t.Run("none while it is attached", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := scripted(t, sends(errGone, numbered(1)...), stays())
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			s, err := w.dial(ctx, acking())
			require.NoError(t, err)
			err = drain(s)
			requireReason(t, err, stream.ReasonContext, "Recv")
			require.NotContains(t, err.Error(), "last:")
			require.Equal(t, "recv", opOf(err))
		})
	})
}

// If a stream cannot continue, the text of the error names what decides that.
func TestTheTextNamesTheOption(t *testing.T) {
	t.Parallel()
	sending := func(opts ...stream.ClientOption) func(t *testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			s := scripted(t, lasts(time.Second, errGone)).mustDial(acking(), opts...)
			mustSend(t, s, 1, 1)
			return drain(s)
		}
	}
	receives := func(cb callbacks, opts []stream.ClientOption, handlers ...func(bidi) error) func(t *testing.T) error {
		return func(t *testing.T) error {
			t.Helper()
			return drain(scripted(t, handlers...).mustDial(cb, opts...))
		}
	}
	with := func(opts ...stream.ClientOption) []stream.ClientOption { return opts }
	tests := map[string]struct {
		ends   func(t *testing.T) error
		reason stream.Reason
		names  []string
	}{
		"sends in doubt": {sending(), stream.ReasonSendsInDoubt, []string{"WithReplay", "WithAtMostOnceSends"}},
		"no checkpoint":  {receives(callbacks{}, nil, sends(errGone, numbered(1)...)), stream.ReasonNoCheckpoint, []string{"Checkpoint", "WithRestart"}},
		"resume off":     {receives(positions(), with(stream.WithoutResume()), sends(errGone)), stream.ReasonResumeOff, []string{"WithoutResume"}},
		"max outage": {
			receives(positions(), with(stream.WithMaxOutage(time.Minute)), sends(errGone)), stream.ReasonMaxOutage, []string{"WithMaxOutage", "1m0s", "going away"},
		},
		"gap":    {receives(positions(), with(stream.WithGapDetection()), stays(numbered(1, 3)...)), stream.ReasonGap, []string{"WithGapDetection", "3 came after 1"}},
		"poison": {receives(positions(), with(stream.WithPoisonLimit(3)), sends(errGone)), stream.ReasonPoison, []string{"WithPoisonLimit", "going away"}},
		"position lost": {
			receives(positions(), nil, sends(status.Error(codes.OutOfRange, "compacted"))), stream.ReasonPositionLost, []string{"Callbacks.Lost", "compacted"},
		},
		"held overflow": {
			receives(positions(), with(stream.HoldUntilCheckpoint(100, stream.OverflowFail)), stays(frame{kind: fragment, size: 200})),
			stream.ReasonHeldOverflow,
			[]string{"HoldUntilCheckpoint"},
		},
		"window full": {func(t *testing.T) error {
			t.Helper()
			s := scripted(t, stays()).mustDial(acking(), stream.WithReplay(stream.ReplayLimits{Messages: 1, FailWhenFull: true}))
			mustSend(t, s, 1, 1)
			return s.Send(frame{kind: data, seq: 2}.request())
		}, stream.ReasonWindowFull, []string{"WithReplay"}},
		"unacked": {func(t *testing.T) error {
			t.Helper()
			s := scripted(t, lasts(time.Second, nil)).mustDial(acking(), withReplay())
			mustSend(t, s, 1, 1)
			return drain(s)
		}, stream.ReasonUnacked, []string{"WithOKAcknowledges", "Unacked"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := test.ends(t)
				requireReason(t, err, test.reason, name)
				for _, word := range test.names {
					require.ErrorContains(t, err, word)
				}
				var e *stream.Error
				require.True(t, errors.As(err, &e))
				require.NotZero(t, e.Attempts)
			})
		})
	}
}

// A position needs something that uses it. The constructor names the ways out, and takes each of them.
func TestCheckpointWithoutResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cb := positions()
		cb.Resume = nil
		w := scripted(t, stays())
		_, err := w.dial(t.Context(), cb)
		wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, "Checkpoint without Resume")
		for _, way := range []string{"Callbacks.Resume", "WithReplay", "WithRestart", "WithoutResume"} {
			require.ErrorContains(t, err, way)
		}
		require.Zero(t, handled(w), "nothing was opened")
		withAcks := cb
		withAcks.Acked = acking().Acked
		for name, way := range map[string]struct {
			cb  callbacks
			opt stream.ClientOption
		}{
			"Resume": {positions(), stream.WithName("")}, "WithReplay": {withAcks, withReplay()},
			"WithRestart": {cb, stream.WithRestart()}, "WithoutResume": {cb, stream.WithoutResume()},
		} {
			s, err := w.dial(t.Context(), way.cb, way.opt)
			require.NoError(t, err, name)
			require.NoError(t, s.Close())
		}
		_, err = w.dial(t.Context(), cb, stream.WithAtMostOnceSends())
		requireReason(t, err, stream.ReasonOptions, "WithAtMostOnceSends is no way out")
	})
}

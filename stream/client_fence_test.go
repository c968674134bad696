package stream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// The fence (invariants 12, 13 and 23): while somebody is in a call on an attempt that was lost, the next attempt is not
// resumed, because the position and what was sent can still change. Who has left, by Close or by the context, waits for
// nobody.

// fence is one cell of the matrix: what the stream is opened with, and what happened to it.
type fence struct {
	gate      *gate
	cb        callbacks
	opts      []stream.ClientOption
	call      []grpc.CallOption
	send      func(m any, next func(any) error) error // the SendMsg of an interceptor
	sends     bool                                    // it is a Send that stands in the gate, not a Recv
	replay    bool
	positions bool
	seen      froms // positions that attempts were resumed from
	server    *feed

	next   uint64        // the number of the next message to send
	reason stream.Reason // why the stream ends; ReasonUnknown: it goes on

	world  *world
	stream *client
	cancel context.CancelFunc
	recv   <-chan received
	sent   <-chan error // the result of the Send that stands in the gate
}

// isFirst reports whether f is message 1.
func isFirst(f frame) bool { return f.kind == data && f.seq == 1 }

// places are where the application stands when the attempt is lost. Each makes message 1 enter the gate.
func fencePlaces() map[string]func(f *fence) {
	return map[string]func(f *fence){
		"Recv in Err": func(f *fence) {
			f.cb.Err = func(m *response) error {
				if isFirst(frameOf(m)) {
					f.gate.enter()
				}
				return nil
			}
		},
		"Recv in Acked": func(f *fence) {
			acked := f.cb.Acked
			f.cb.Acked = func(m *response) (uint64, bool) {
				if isFirst(frameOf(m)) {
					f.gate.enter()
				}
				return acked(m)
			}
		},
		"Recv in Checkpoint": func(f *fence) {
			at := f.cb.Checkpoint
			f.cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
				if isFirst(frameOf(m)) {
					f.gate.enter()
				}
				if at == nil {
					return checkpoint.Position{}, false
				}
				return at(m)
			}
		},
		"Recv in Control": func(f *fence) {
			control := f.cb.Control
			f.cb.Control = func(m *response) bool {
				if isFirst(frameOf(m)) {
					f.gate.enter()
				}
				return control(m)
			}
		},
		"Send in SendMsg": func(f *fence) {
			f.sends = true
			next := f.send
			f.send = func(m any, send func(any) error) error {
				if isFirst(frameOf(asRequest(m))) {
					f.gate.enter()
				}
				return next(m, send)
			}
		},
		"Send in Marshal": func(f *fence) {
			f.sends = true
			f.call = append(f.call, grpc.ForceCodecV2(&gatedCodec{CodecV2: encoding.GetCodecV2(protocodec.Name), gate: f.gate}))
		},
	}
}

// gatedCodec makes message 1 enter a gate.
type gatedCodec struct {
	encoding.CodecV2
	gate *gate
}

func (c *gatedCodec) Marshal(v any) (mem.BufferSlice, error) {
	if isFirst(frameOf(asRequest(v))) {
		c.gate.enter()
	}
	return c.CodecV2.Marshal(v)
}

// errAuditLog is how an interceptor fails after it has sent a message of size failsLate.
var errAuditLog = errors.New("the audit log is full")

const failsLate = 7

// fenceLosses are the ways in which the attempt is lost. Each is arranged before the stream is opened, and returns what
// makes it happen.
func fenceLosses() map[string]func(f *fence) (lose func(t *testing.T)) {
	return map[string]func(f *fence) func(t *testing.T){
		"a time limit": func(f *fence) func(*testing.T) {
			limit := stream.WithIdleTimeout
			if f.sends {
				limit = stream.WithSendTimeout
			}
			f.opts = append(f.opts, limit(10*time.Second))
			return func(*testing.T) { rest(20 * time.Second) }
		},
		"the other half": func(f *fence) func(*testing.T) { return f.loseByTheOtherHalf },
		"Close": func(f *fence) func(*testing.T) {
			f.reason = stream.ReasonClosed
			return func(t *testing.T) {
				t.Helper()
				mustClose(t, f.stream, "while the application stands in the gate")
			}
		},
		"the context": func(f *fence) func(*testing.T) {
			f.reason = stream.ReasonContext
			return func(*testing.T) { f.cancel() }
		},
	}
}

// loseByTheOtherHalf loses the attempt by a Send that fails, while a Recv stands in the gate, or the other way round.
func (f *fence) loseByTheOtherHalf(t *testing.T) {
	t.Helper()
	if f.sends {
		f.world.Cut(testnet.RST)
		return
	}
	m, reason := frame{kind: data, seq: 1}, stream.ReasonMessage
	if f.replay {
		m.size, reason = failsLate, stream.ReasonSendsInDoubt
		f.next = 2 // the interceptor fails after grpc had the message, which ends the attempt at once: it counts as sent
	} else {
		m.size = 20_000 // grpc aborts the attempt, and nobody knows that until somebody receives
	}
	err := within(t, async(func() error { return f.stream.Send(m.request()) }), "the Send that fails")
	requireReason(t, err, reason, "the Send that fails")
}

// newFence arranges a stream. Nothing is opened.
func newFence(replay, positions bool) *fence {
	f := &fence{gate: newGate(), replay: replay, positions: positions, server: &feed{total: 3}, next: 1}
	f.cb = f.server.callbacks()
	f.cb.Resume = f.seen.resume(f.cb.Resume)
	f.call = []grpc.CallOption{grpc.MaxCallSendMsgSize(10_000)}
	f.opts = []stream.ClientOption{stream.WithAtMostOnceSends()}
	if replay {
		f.opts = []stream.ClientOption{withReplay()}
	}
	if !positions {
		f.cb.Checkpoint = nil
		f.opts = append(f.opts, stream.WithRestart())
	}
	f.send = func(m any, next func(any) error) error {
		if err := next(m); err != nil || frameOf(asRequest(m)).size != failsLate {
			return err
		}
		return errAuditLog
	}
	return f
}

// open opens the stream.
func (f *fence) open(t *testing.T) {
	t.Helper()
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(t.Context())
	t.Cleanup(f.cancel)
	f.world = newWorld(t, f.server, grpc.WithStreamInterceptor(sendingWith(f.send)))
	s, err := f.world.dial(ctx, f.cb, append(f.opts, stream.WithCallOptions(f.call...))...)
	require.NoError(t, err)
	closeAtTheEnd(t, s)
	t.Cleanup(f.gate.open) // or nothing ends where a rule is broken
	f.stream = s
}

// receive receives until the end.
func (f *fence) receive() received {
	got, err := receiveAll(f.stream)
	return received{got, err}
}

// start opens the stream, and returns when the application stands in the gate.
func (f *fence) start(t *testing.T) {
	t.Helper()
	f.open(t)
	f.recv = async(f.receive)
	if f.sends {
		f.next = 2
		f.sent = async(func() error { return f.stream.Send(frame{kind: data, seq: 1}.request()) })
	}
	within(t, f.gate.entered, "the application in the gate")
	synctest.Wait() // what else there is to receive has been received
}

// checkLeft sees what Close and the context do while the application stands in the gate, and afterwards.
func (f *fence) checkLeft(t *testing.T) {
	t.Helper()
	rest(time.Minute)
	require.Equal(t, stream.Closed, f.stream.State(), "who has left waits for nobody")
	f.gate.open()
	end := within(t, f.recv, "the end of Recv")
	requireReason(t, end.err, f.reason, "Recv")
	require.Equal(t, upTo(uint64(len(end.got))), end.got, "messages received")
	if f.sends {
		if err := within(t, f.sent, "the end of Send"); err != nil {
			requireReason(t, err, f.reason, "Send")
		}
	}
	rest(time.Minute)
	require.Len(t, f.seen, 1, "attempts that were resumed")
	require.LessOrEqual(t, len(f.server.seen), 1, "messages that the server saw")
}

// checkResumed sees that the next attempt waits for who stands in the gate, and then that nothing is lost, doubled or
// reordered.
func (f *fence) checkResumed(t *testing.T) {
	t.Helper()
	rest(time.Minute)
	require.Len(t, f.seen, 1, "attempts that were resumed while the application is in a call on the first (invariant 12)")
	f.gate.open()
	if f.sent != nil {
		require.NoError(t, within(t, f.sent, "the Send that was on its way"))
	}
	for seq := f.next; seq <= 3; seq++ {
		err := within(t, async(func() error { return f.stream.Send(frame{kind: data, seq: seq}.request()) }), "a Send afterwards")
		require.NoError(t, err, "message %d", seq)
	}
	require.NoError(t, within(t, async(f.stream.CloseSend), "CloseSend"))
	end := within(t, f.recv, "the end of the stream")
	require.Equal(t, io.EOF, end.err)
	require.Len(t, f.seen, 2, "attempts that were resumed")
	require.Equal(t, upTo(3), f.server.seen, "messages that the server saw: nothing is lost, doubled or reordered")
	before := len(end.got) // messages that the first attempt brought
	if f.positions {
		require.Equal(t, upTo(3), end.got, "messages received: nothing is lost, doubled or reordered")
		require.Zero(t, f.stream.Stats().Duplicates, "the position was read when nothing could change it")
		before = int(f.seen[1].Seq) //nolint:gosec // small
	} else {
		require.Equal(t, checkpoint.Position{}, f.seen[1])
		before -= 3
		require.Equal(t, slices.Concat(upTo(uint64(before)), upTo(3)), end.got, "messages received: all, and all again")
	}
	if f.sends {
		require.Equal(t, 3, before, "messages of the first attempt")
	} else {
		require.Positive(t, before, "message 1 was in the application's hands")
	}
}

// on says whether something is on.
func on(yes bool) string {
	if yes {
		return "on"
	}
	return "off"
}

func TestTheNextAttemptWaitsForCallsOnTheLast(t *testing.T) {
	t.Parallel()
	for where, place := range fencePlaces() {
		for what, loss := range fenceLosses() {
			for i := range 4 {
				replay, positions := i&1 == 0, i&2 == 0
				t.Run(fmt.Sprintf("%s, lost by %s, replay %s, positions %s", where, what, on(replay), on(positions)), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						f := newFence(replay, positions)
						place(f)
						lose := loss(f)
						f.start(t)
						lose(t)
						if f.reason == stream.ReasonUnknown {
							f.checkResumed(t)
						} else {
							f.checkLeft(t)
						}
						mustClose(t, f.stream, "at the end")
						synctest.Wait()
						require.Zero(t, active(f.world), "handlers that still run (invariant 23)")
					})
				})
			}
		}
	}
}

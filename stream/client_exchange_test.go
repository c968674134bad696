package stream_test

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"pgregory.net/rapid"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// script is a random course of an exchange.
type script struct {
	toServer, toClient int
	size               int // of the server's messages
	window             stream.ReplayLimits
	ackEvery           int
	faults             []testnet.Fault
	pauses             []time.Duration // of the sender, in turn
	slow               []time.Duration // of the receiver, in turn
	holds              bool
	age                time.Duration // WithMaxAge; zero: none
	sends, recvs       restraint     // the policies for messages
}

func drawScript(t *rapid.T) script {
	pause := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, time.Second, 20 * time.Second}), 1, 8)
	s := script{
		toServer: rapid.IntRange(0, 60).Draw(t, "messages to the server"),
		toClient: rapid.IntRange(0, 60).Draw(t, "messages to the client"),
		size:     rapid.SampledFrom([]int{0, 100, 2000, 40_000}).Draw(t, "size"),
		window: stream.ReplayLimits{
			Messages: rapid.IntRange(1, 40).Draw(t, "window"),
			Bytes:    rapid.SampledFrom([]int{0, 200, 100_000}).Draw(t, "window in bytes"),
		},
		ackEvery: rapid.IntRange(1, 5).Draw(t, "acknowledged every"),
		pauses:   pause.Draw(t, "pauses of the sender"),
		slow:     pause.Draw(t, "pauses of the receiver"),
		holds:    rapid.Bool().Draw(t, "holds"),
		age:      rapid.SampledFrom([]time.Duration{0, 0, time.Second, 15 * time.Second}).Draw(t, "greatest age"),
	}
	s.sends = rapid.Custom(drawRestrained).Draw(t, "policies for Send")
	s.recvs = rapid.Custom(drawRestrained).Draw(t, "policies for Recv")
	s.faults = rapid.SliceOfN(rapid.Custom(drawFault), 0, 8).Draw(t, "faults")
	return s
}

func drawRestrained(t *rapid.T) restraint {
	often := rapid.SampledFrom([]time.Duration{0, 0, 10 * time.Millisecond, 2 * time.Second})
	return restraint{
		every: often.Draw(t, "a permit each"),
		wait:  rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "wait for a permit"),
		trips: rapid.Bool().Draw(t, "a breaker"),
		one:   rapid.Bool().Draw(t, "a bulkhead"),
		limit: rapid.SampledFrom([]time.Duration{0, 0, 0, 10 * time.Second}).Draw(t, "timeout"),
		own:   rapid.Bool().Draw(t, "an executor of its own"),
	}
}

func drawFault(t *rapid.T) testnet.Fault {
	f := testnet.Fault{
		Kind: rapid.SampledFrom([]testnet.Kind{
			testnet.FIN, testnet.RST, testnet.Truncate, testnet.BlackHole, testnet.StallToServer, testnet.StallToClient,
		}).Draw(t, "kind"),
		Direction: rapid.SampledFrom([]testnet.Direction{testnet.ToServer, testnet.ToClient}).Draw(t, "direction"),
		Total:     true,
		For:       rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second}).Draw(t, "for"),
	}
	if rapid.Bool().Draw(t, "in bytes") {
		f.Bytes = rapid.Int64Range(0, 20_000).Draw(t, "bytes")
		return f
	}
	f.Message = rapid.IntRange(1, 40).Draw(t, "message")
	f.Where = rapid.SampledFrom([]testnet.Where{testnet.Before, testnet.Inside, testnet.After}).Draw(t, "where")
	return f
}

// lazyAcks is a server's stream that lets only every so many acknowledgements through, and that of the last message.
type lazyAcks struct {
	bidi
	every int
	last  uint64

	mu   sync.Mutex // guards seen
	seen int
}

func (l *lazyAcks) Send(m *response) error {
	if f := frameOf(m); f.kind == ack && f.seq != l.last {
		l.mu.Lock()
		l.seen++
		skip := l.seen%l.every != 0
		l.mu.Unlock()
		if skip {
			return nil
		}
	}
	return l.bidi.Send(m)
}

// Whatever goes wrong, whoever is slow, and whatever policies deny: in order, no loss, no duplicate, bounded. A message that was
// denied is sent again by the application, under the same number: both journals show if it was sent the first time, or if
// a denied Recv has taken a message. Run more schedules with -rapid.checks=10000.
func TestExchangeHoldsWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		sc := drawScript(rt)
		synctest.Test(t, func(t *testing.T) {
			f := &feed{total: uint64(sc.toClient), size: sc.size}
			j := keepJournal(f)
			journalled := f.handler
			f.handler = func(s bidi) error {
				every := min(sc.ackEvery, sc.window.Messages)
				if sc.window.Bytes == 200 {
					every = 1
				}
				return journalled(&lazyAcks{bidi: s, every: every, last: uint64(sc.toServer)})
			}
			w := newWorld(t, f)
			w.ArmInOrder(sc.faults...)
			opts := []stream.ClientOption{
				stream.WithReplay(sc.window), stream.WithIdleTimeout(5 * time.Second),
				stream.WithSendTimeout(5 * time.Second), stream.WithOpenTimeout(5 * time.Second),
			}
			if j.overlaps = sc.age > 0; j.overlaps {
				opts = append(opts, stream.WithMaxAge(sc.age, 0))
			}
			sends, recvs := sc.sends.build(3*time.Second), sc.recvs.build(3*time.Second)
			opts = append(opts, restrainBoth(sends, recvs)...)
			if sc.holds {
				opts = append(opts, stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail))
			}
			s := w.mustOpen(opts...)
			sent := make(chan error, 1)
			go func() { // ends with the stream; a line below waits for it
				err := sc.send(s, sends)
				if err != nil {
					_ = s.Close() // or Recv would wait for the rest
				}
				sent <- err
			}()
			hung := time.AfterFunc(24*time.Hour, func() {
				t.Errorf("does not end: %+v, after %+v, %+v", sc, w.Cuts(), s.Stats())
				_ = s.Close()
			})
			defer hung.Stop()
			got, err := sc.receive(s, recvs)
			require.NoError(t, within(t, sent, "the end of sending"), "while receiving ended with %v, in %+v", err, sc)
			require.ErrorIs(t, err, io.EOF, "the end of %+v", sc)
			require.Equal(t, upTo(uint64(sc.toClient)), got, "what the application got in %+v", sc)
			require.Equal(t, upTo(uint64(sc.toServer)), f.stored, "what the server has after %+v", sc)
			j.check(t)
			require.NoError(t, sends.kept(), "Send, after %+v", sc)
			require.NoError(t, recvs.kept(), "Recv, after %+v", sc)
			mustClose(t, s, "called by the test")
			synctest.Wait()
			require.Zero(t, f.active, "handlers left after %+v", sc)
		})
	})
}

func (sc script) send(s *client, under *restrained) error {
	for seq := uint64(1); seq <= uint64(sc.toServer); seq++ {
		time.Sleep(sc.pauses[int(seq)%len(sc.pauses)])
		err := s.Send(frame{kind: data, seq: seq, size: sizeOf(seq)}.request())
		for ; isDenied(err); err = s.Send(frame{kind: data, seq: seq, size: sizeOf(seq)}.request()) {
			if wrong := under.unfounded(err); wrong != nil {
				return wrong
			}
			if given := s.Stats().LastSeq; given >= seq {
				return fmt.Errorf("message %d was denied, and has a number: %d", seq, given)
			}
			time.Sleep(300 * time.Millisecond)
		}
		if err != nil {
			return err
		}
		if st := s.Stats(); st.Unacked > sc.window.Messages {
			return errors.New("more messages are kept than allowed")
		}
	}
	return s.CloseSend()
}

func (sc script) receive(s *client, under *restrained) ([]uint64, error) {
	var got []uint64
	for {
		m, err := s.Recv()
		if isDenied(err) && under.unfounded(err) == nil {
			time.Sleep(300 * time.Millisecond)
			continue
		}
		if err != nil {
			return got, err
		}
		got = append(got, frameOf(m).seq)
		time.Sleep(sc.slow[len(got)%len(sc.slow)])
	}
}

// burst is a size of messages that lets few of them travel at once, so that there is time for many breaks.
const burst = 8 << 10

// Send and Recv race with breaks, thousands of times.
func TestExchangeRacingWithBreaks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const messages = 3000
				f := &feed{total: messages, size: burst}
				j := keepJournal(f)
				w := newWorld(t, f)
				w.Chaos(testnet.Chaos{
					Seed: seed + 1, Kinds: []testnet.Kind{testnet.FIN, testnet.RST, testnet.Truncate}, Messages: 12,
				})
				s := w.mustOpen(stream.WithReplay(stream.ReplayLimits{Messages: 8}))
				converse(t, s, j, messages)
				require.GreaterOrEqual(t, len(w.Cuts()), 100, "breaks")
				require.Equal(t, s.Stats().Outages, s.Stats().Resumes, "each outage was got over")
			})
		})
	}
}

// The same over real sockets. Nothing is left over in the end (invariant 23).
func TestExchangeRacingWithBreaksOverTCP(t *testing.T) { //nolint:paralleltest // goleak sees the goroutines of all tests
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const messages = 2000
	f := &feed{total: messages, size: burst}
	j := keepJournal(f)
	proxy, err := testnet.NewTCP("")
	require.NoError(t, err)
	listener, err := proxy.Listen()
	require.NoError(t, err)
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, f)
	go func() { _ = server.Serve(listener) }() // ends with the server, which the end of the test stops
	conn, err := proxy.Client(grpc.WithConnectParams(fastConnect))
	require.NoError(t, err)
	defer func() {
		_ = conn.Close()
		server.Stop()
		require.NoError(t, proxy.Close())
	}()
	proxy.Chaos(testnet.Chaos{Seed: 2, Kinds: []testnet.Kind{testnet.FIN, testnet.RST, testnet.Truncate}, Messages: 20})
	s, err := stream.Resilient(newWatchdog(t).context(t.Context()), testpb.NewTestServiceClient(conn).FullDuplexCall, f.callbacks(),
		stream.WithReplay(stream.ReplayLimits{Messages: 8}),
		stream.WithStreamPolicies(stream.NewRetryPolicyBuilder().WithBackoff(time.Millisecond, 2*time.Millisecond).Build()))
	require.NoError(t, err)
	defer func() { mustClose(t, s, "called by the test") }()
	converse(t, s, j, messages)
	require.GreaterOrEqual(t, len(proxy.Cuts()), 20, "breaks, of a hundred or so on a machine that does nothing else")
}

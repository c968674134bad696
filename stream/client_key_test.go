package stream_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
	"github.com/streamsafe/streamsafe/stream/streamtest"
)

// The protocol of these tests: a data frame sets a key to a version, and an ack frame ends the key. Both are in its number.

const perKey = 1_000_000 // versions of a key

func setKey(key, version uint64) *request {
	return frame{kind: data, seq: key*perKey + version}.request()
}

func endKey(key, version uint64) *request {
	return frame{kind: ack, seq: key*perKey + version}.request()
}

// keyed are the callbacks of that protocol. Frames of another kind are ordinary messages.
func keyed() callbacks {
	return callbacks{Key: func(m *request) (string, bool) {
		f := frameOf(m)
		if f.kind != data && f.kind != ack {
			return "", false
		}
		return strconv.FormatUint(f.seq/perKey, 10), f.kind == ack
	}}
}

// subscribed is what one handler has been told.
type subscribed struct {
	attempt uint64            // zero: the client has not said
	got     []frame           // in order
	set     map[uint64]uint64 // the version of each key
}

// subscriptions is a server that knows of each attempt only what came on it. Read it when nothing moves.
type subscriptions struct{ handlers []*subscribed }

func (s *subscriptions) handle(b bidi) error {
	h := &subscribed{set: map[uint64]uint64{}}
	s.handlers = append(s.handlers, h)
	for {
		m, err := b.Recv()
		if err != nil {
			return err
		}
		f := frameOf(m)
		if f.kind == hello {
			h.attempt = f.seq
			continue
		}
		h.got = append(h.got, f)
		if f.kind == ack {
			delete(h.set, f.seq/perKey)
		} else {
			h.set[f.seq/perKey] = f.seq % perKey
		}
	}
}

// check sees that the newest attempt knows what the client wants, and that no attempt was told anything twice, or backwards.
func (s *subscriptions) check(t *testing.T, want map[uint64]uint64) {
	t.Helper()
	require.NoError(t, s.wrong(want))
}

// wrong is what check finds.
func (s *subscriptions) wrong(want map[uint64]uint64) error {
	if got := s.handlers[len(s.handlers)-1].set; !maps.Equal(want, got) {
		return fmt.Errorf("the server has %v, and the client wants %v", got, want)
	}
	for i, h := range s.handlers {
		versions := map[uint64]uint64{}
		for _, f := range h.got {
			key, version := f.seq/perKey, f.seq%perKey
			if version <= versions[key] {
				return fmt.Errorf("attempt %d: version %d of key %d came after %d", i+1, version, key, versions[key])
			}
			versions[key] = version
		}
	}
	return nil
}

// missesNone sees that the attempt was told, before anything that is new, what the client wanted then, and after that each change.
// replayed is how many messages were told first; changes has what the client has sent, by its version from 1.
func (h *subscribed) missesNone(t *testing.T, replayed int, changes []frame) {
	t.Helper()
	if len(h.got) <= replayed {
		return // it broke before anything was new, or nothing was
	}
	told := map[uint64]uint64{}
	for _, f := range h.got[:replayed] {
		told[f.seq/perKey] = f.seq % perKey
	}
	next := h.got[replayed].seq % perKey
	want := map[uint64]uint64{}
	for _, f := range changes[:next-1] {
		if f.kind == ack {
			delete(want, f.seq/perKey)
		} else {
			want[f.seq/perKey] = f.seq % perKey
		}
	}
	require.Equal(t, want, told, "attempt %d: what it was told before change %d", h.attempt, next)
	for i, f := range h.got[replayed:] {
		require.Equal(t, changes[int(next)-1+i], f, "attempt %d: change %d", h.attempt, int(next)+i)
	}
}

// One goroutine changes 1,000 keys at random while the network breaks. After each attach the server has what the client wanted then,
// and no change is missing. Keys that never end are told first, on each attempt, in the order in which they were first sent.
func TestKeysWhileTheNetworkBreaks(t *testing.T) {
	t.Parallel()
	const keys, lasting = 1000, 100
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // it has to be repeatable
				server := &subscriptions{}
				w := newWorld(t, &feed{handler: server.handle})
				cb, replayed := keyed(), map[uint64]int{}
				cb.Resume = func(_ context.Context, r *resumption) error {
					return r.Send(frame{kind: hello, seq: r.Attempt()}.request())
				}
				s := w.mustDial(cb, stream.WithObserver(stream.Hooks{
					OnReplaying: func(info stream.Info, messages uint64) { replayed[info.Attempt] = int(messages) }, //nolint:gosec // few
				}))
				receiving(s)
				var changes []frame
				want := map[uint64]uint64{}
				version := uint64(0)
				change := func(key uint64) {
					version++
					if _, has := want[key]; has && key >= lasting && random.IntN(3) == 0 {
						delete(want, key)
						changes = append(changes, frameOf(endKey(key, version)))
						require.NoError(t, s.Send(endKey(key, version)))
						return
					}
					want[key] = version
					changes = append(changes, frameOf(setKey(key, version)))
					require.NoError(t, s.Send(setKey(key, version)))
				}
				for key := range uint64(lasting) {
					change(key)
				}
				for range 30 {
					w.Arm(testnet.Fault{
						Kind: testnet.RST, Direction: testnet.ToServer, Message: 1 + random.IntN(len(want)+30), Where: testnet.Where(random.IntN(3)),
					})
					for range random.IntN(400) {
						change(random.Uint64N(keys))
						if random.IntN(40) == 0 {
							time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
						}
					}
					if random.IntN(3) == 0 {
						w.Cut(testnet.RST)
					}
					rest(time.Minute)
					server.check(t, want)
					require.Equal(t, len(want), s.Stats().Keys, "keys that are kept")
				}
				require.Greater(t, len(server.handlers), 15, "attempts")
				for i, h := range server.handlers {
					h.missesNone(t, replayed[h.attempt], changes)
					for n, f := range h.got[:min(lasting, len(h.got))] {
						require.Equal(t, uint64(n), f.seq/perKey, "attempt %d: key number %d", i+1, n)
					}
				}
			})
		})
	}
}

// Wherever it breaks: the server ends up with what the client wants (invariant 13).
func TestMatrixOfCutsWithKeys(t *testing.T) {
	t.Parallel()
	script := make([]*request, 0, 30)
	want := map[uint64]uint64{}
	for version := uint64(1); version <= 30; version++ {
		key := version * 7 % 8
		if version%5 == 0 {
			script = append(script, endKey(key, version))
			delete(want, key)
			continue
		}
		script = append(script, setKey(key, version))
		want[key] = version
	}
	var server *subscriptions
	streamtest.CutEverywhere(t, streamtest.Scenario{
		Serve: func(s *grpc.Server) {
			server = &subscriptions{}
			testpb.RegisterTestServiceServer(s, &feed{handler: server.handle})
		},
		Run: func(ctx context.Context, cc grpc.ClientConnInterface) error {
			s, err := stream.Resilient(ctx, testpb.NewTestServiceClient(cc).FullDuplexCall, keyed())
			if err != nil {
				return err
			}
			receiving(s)
			for _, m := range script {
				if err := s.Send(m); err != nil {
					return err
				}
			}
			rest(time.Minute)
			return errors.Join(server.wrong(want), s.Close())
		},
	}, streamtest.WithKinds(streamtest.RST))
}

// While there is no attempt, Send of a key does not wait: the message takes the place of the kept one, and the attempt gets
// nothing of what was there before.
func TestSendOfAKeyWhileDetached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &subscriptions{}
		w := newWorld(t, &feed{handler: server.handle})
		s := w.mustDial(keyed())
		receiving(s)
		for key := uint64(1); key <= 4; key++ {
			require.NoError(t, s.Send(setKey(key, 1)))
		}
		w.Refuse(true)
		w.Cut(testnet.RST)
		rest(time.Second)
		require.NotEqual(t, stream.Attached, s.State())
		began := time.Now()
		m := setKey(2, 2)
		require.NoError(t, s.Send(m))
		m.Payload = frame{kind: data, seq: 99}.payload() // invariant 29
		require.NoError(t, s.Send(endKey(3, 2)))
		require.NoError(t, s.Send(setKey(1, 2)))
		require.NoError(t, s.Send(setKey(5, 1)))
		require.NoError(t, s.Send(setKey(3, 3)))
		require.Zero(t, time.Since(began), "what Send has waited")
		w.Refuse(false)
		rest(time.Minute)
		require.Equal(t, []uint64{1*perKey + 2, 2*perKey + 2, 4*perKey + 1, 5*perKey + 1, 3*perKey + 3},
			seqsOf(server.handlers[len(server.handlers)-1].got), "what the next attempt brought")
	})
}

// Invariant 13: a Send during the replay comes after it, and is not missed, whether its key was told already or not.
func TestSendOfAKeyDuringTheReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &subscriptions{}
		var slow atomic.Bool
		w := newWorld(t, &feed{handler: server.handle}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if slow.Load() {
				time.Sleep(time.Second)
			}
			return next(m)
		})))
		s := w.mustDial(keyed())
		receiving(s)
		want := map[uint64]uint64{}
		for key := uint64(1); key <= 20; key++ {
			want[key] = 1
			require.NoError(t, s.Send(setKey(key, 1)))
		}
		synctest.Wait()
		slow.Store(true)
		w.Cut(testnet.RST)
		time.Sleep(10500 * time.Millisecond)
		require.Less(t, s.Stats().Replayed, uint64(20), "messages sent again by then")
		require.Positive(t, s.Stats().Replayed, "messages sent again by then")
		require.NoError(t, s.Send(setKey(2, 2)), "a key that was told already")
		slow.Store(false)
		require.NoError(t, s.Send(endKey(3, 2)), "the end of one")
		require.NoError(t, s.Send(setKey(19, 2)), "a key that was not told yet, when the replay began")
		require.NoError(t, s.Send(setKey(21, 1)), "a new key")
		delete(want, 3)
		want[2], want[19], want[21] = 2, 2, 1
		rest(time.Minute)
		server.check(t, want)
		require.Len(t, server.handlers, 2, "attempts")
		require.Equal(t, []uint64{2*perKey + 2, 3*perKey + 2, 19*perKey + 2, 21*perKey + 1},
			seqsOf(server.handlers[1].got[20:]), "what came after the replay")
	})
}

func seqsOf(frames []frame) []uint64 {
	seqs := make([]uint64, 0, len(frames))
	for _, f := range frames {
		seqs = append(seqs, f.seq)
	}
	return seqs
}

// Memory for keys is limited, by number and by size, and the error says by what (invariant 8).
func TestKeyLimits(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]stream.KeyLimits{"keys": {Keys: 2}, "bytes": {Bytes: 2 * 14}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &subscriptions{}
				s := newWorld(t, &feed{handler: server.handle}).mustDial(keyed(), stream.WithKeyLimits(limits))
				require.NoError(t, s.Send(setKey(1, 1)))
				require.NoError(t, s.Send(setKey(2, 1)))
				err := s.Send(setKey(3, 1))
				wantEnd(t, err, stream.ReasonWindowFull, codes.ResourceExhausted, "a key too many")
				require.ErrorContains(t, err, "WithKeyLimits")
				require.NoError(t, s.Send(setKey(2, 2)), "another message of a key that is there")
				require.NoError(t, s.Send(endKey(1, 2)))
				require.NoError(t, s.Send(setKey(3, 1)), "after a key has ended")
				synctest.Wait()
				server.check(t, map[uint64]uint64{2: 2, 3: 1})
			})
		})
	}
}

// Ordinary messages stay what they are: nobody knows whether the server has one that was lost. Keys are in no doubt.
func TestKeysAndOrdinaryMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &subscriptions{}
		w := newWorld(t, &feed{handler: server.handle})
		s := w.mustDial(keyed())
		ended := receiving(s)
		require.NoError(t, s.Send(setKey(1, 1)))
		w.Cut(testnet.RST)
		goesOn(t, ended)
		require.NoError(t, s.Send(frame{kind: hello, seq: perKey}.request()))
		w.Cut(testnet.RST)
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonSendsInDoubt, "the loss of an ordinary message")
	})
}

// What grpc, or an interceptor, refuses is not kept: the key has what it had before. What may have been sent is kept.
func TestKeyThatIsRefused(t *testing.T) {
	t.Parallel()
	refusal := status.Error(codes.PermissionDenied, "not you")
	for name, c := range map[string]struct {
		refuse func(m any, next func(any) error) error
		want   uint64
		reason stream.Reason
	}{
		"by grpc":                          {nil, 1, stream.ReasonMessage},
		"by an interceptor":                {func(any, func(any) error) error { return refusal }, 1, stream.ReasonMessage},
		"by an interceptor, after sending": {func(m any, next func(any) error) error { _ = next(m); return refusal }, 2, stream.ReasonSendsInDoubt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &subscriptions{}
				var on atomic.Bool
				w := newWorld(t, &feed{handler: server.handle}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
					if !on.Load() || c.refuse == nil {
						return next(m)
					}
					return c.refuse(m, next)
				})))
				s := w.mustDial(keyed(), stream.WithCallOptions(grpc.MaxCallSendMsgSize(1000)))
				receiving(s)
				require.NoError(t, s.Send(setKey(1, 1)))
				on.Store(true)
				m := setKey(1, 2)
				if c.refuse == nil {
					m = frame{kind: data, seq: perKey + 2, size: 2000}.request()
				}
				requireReason(t, s.Send(m), c.reason, "the refused Send")
				on.Store(false)
				w.Cut(testnet.RST)
				rest(time.Minute)
				require.Equal(t, map[uint64]uint64{1: c.want}, server.handlers[len(server.handlers)-1].set)
			})
		})
	}
}

// An interceptor that ends the goroutine of Send leaves nobody waiting, and a key that may have been sent is kept.
func TestKeyWhoseSendDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &subscriptions{}
		w := newWorld(t, &feed{handler: server.handle}, grpc.WithStreamInterceptor(sendingWith(func(m any, next func(any) error) error {
			if err := next(m); frameOf(asRequest(m)).seq != perKey+2 {
				return err
			}
			runtime.Goexit()
			return nil
		})))
		s := w.mustDial(keyed(), stream.WithResumable(func(error) bool { return true }))
		ended := receiving(s)
		require.NoError(t, s.Send(setKey(1, 1)))
		synctest.Wait()
		go func() { _ = s.Send(setKey(1, 2)) }() // ends in the interceptor
		requireReason(t, within(t, ended, "the end of Recv"), stream.ReasonResume, "a callback that ends a goroutine")
		require.Equal(t, 1, s.Stats().Keys)
	})
}

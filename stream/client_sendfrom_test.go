package stream_test

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/streamsafe/streamsafe/internal/testnet"
	"github.com/streamsafe/streamsafe/stream"
)

// numbersOf is a source of n numbered messages. It notes in pulls what it was asked for, if that is not nil.
func numbersOf(n uint64, pulls *[]uint64) func(uint64) iter.Seq2[*request, error] {
	return func(after uint64) iter.Seq2[*request, error] {
		if pulls != nil {
			*pulls = append(*pulls, after)
		}
		return func(yield func(*request, error) bool) {
			for seq := after + 1; seq <= n; seq++ {
				if !yield(frame{kind: data, seq: seq, size: sizeOf(seq)}.request(), nil) {
					return
				}
			}
		}
	}
}

// Wherever it breaks, both ways and with a rotation: the server gets each message of the source, in order, and no attempt gets one
// twice or misses one. Nothing is kept.
func TestMatrixOfCutsWithSendFrom(t *testing.T) {
	t.Parallel()
	const n = 20
	for name, opts := range map[string][]stream.ClientOption{
		"plain": nil, "rotating": {stream.WithMaxAge(20*time.Millisecond, 0)},
	} {
		everywhere(t, name, map[testnet.Direction]int{testnet.ToServer: 1 + n, testnet.ToClient: 1 + n}, func(t *testing.T, fault testnet.Fault) {
			t.Helper()
			f := &feed{total: 3}
			j := keepJournal(f)
			w := newWorld(t, f)
			w.Arm(fault)
			s := w.mustOpen(opts...)
			var pulls []uint64
			ended := receiving(s)
			require.NoError(t, s.SendFrom(numbersOf(n, &pulls)))
			require.ErrorIs(t, within(t, ended, "the end of Recv"), io.EOF)
			require.Equal(t, upTo(n), f.stored, "what the server has: in order, no loss, no duplicate")
			j.check(t)
			require.IsIncreasing(t, append([]uint64{0}, add(pulls, 1)...), "where the source was read from: %v", pulls)
			st := s.Stats()
			require.Equal(t, []uint64{n, n, n}, []uint64{st.Sent, st.LastSeq, st.Acked}, "the statistics")
			require.Zero(t, st.Unacked, "messages that are kept")
			require.Len(t, w.Cuts(), 1, "the fault happened: %v", fault)
		})
	}
}

// add returns all numbers plus d, each once.
func add(all []uint64, d uint64) (sums []uint64) {
	for i, n := range all {
		if i == 0 || n != all[i-1] {
			sums = append(sums, n+d)
		}
	}
	return sums
}

// A client-streaming method acknowledges with its answer. Without a word of Resume an upload begins again; with it, it goes on.
func TestMatrixOfUploadsFromASource(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		everywhere(t, fmt.Sprintf("the server is asked: %v", asks), map[testnet.Direction]int{testnet.ToServer: matrixed},
			func(t *testing.T, fault testnet.Fault) {
				t.Helper()
				h := &warehouse{}
				w := newShop(t, h)
				w.Arm(fault)
				var cb uploads
				if asks {
					cb.Resume = h.asks
				}
				s := w.uploading(cb)
				require.NoError(t, s.SendFrom(func(after uint64) iter.Seq2[*uploadPart, error] {
					return func(yield func(*uploadPart, error) bool) {
						for seq := after + 1; seq <= matrixed && yield(piece(seq), nil); seq++ {
						}
					}
				}))
				m, err := s.CloseAndRecv()
				require.NoError(t, err)
				require.EqualValues(t, matrixed, m.GetAggregatedPayloadSize(), "the answer")
				h.checkUploads(t, matrixed)
			})
	}
}

// SendFrom returns when everything is acknowledged, though nobody receives.
func TestSendFromWaitsForTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPuppet()
		w := newWorld(t, &feed{handler: p.handle})
		s := w.mustOpen()
		done := make(chan error, 1)
		go func() { done <- s.SendFrom(numbersOf(10, nil), stream.WithoutCloseSend()) }() // ends when 10 is acknowledged
		rest(time.Minute)
		p.tell(frame{kind: ack, seq: 9})
		rest(time.Minute)
		require.Empty(t, done, "SendFrom while message 10 is not acknowledged")
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Equal(t, append(upTo(10), 10), p.got(), "what both attempts brought")
		p.tell(frame{kind: ack, seq: 10})
		rest(time.Minute)
		require.NoError(t, within(t, done, "the return of SendFrom"))
		mustSend(t, s, 11, 11)
		synctest.Wait()
		require.Equal(t, append(upTo(10), 10, 11), p.got(), "with what Send has sent after that")
	})
}

// After SendFrom has returned, its half-close is repeated like one of CloseSend.
func TestSendFromHalfCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan int, 10)
		f := &feed{}
		f.handler = func(b bidi) error {
			if err := greet(b, f.last()); err != nil {
				return err
			}
			n := 0
			for ; ; n++ {
				m, err := b.Recv()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					return err
				}
				f.store(frameOf(m).seq)
				if err := b.Send(frame{kind: ack, seq: f.last()}.response()); err != nil {
					return err
				}
			}
			closed <- n
			<-b.Context().Done()
			return b.Context().Err()
		}
		w := newWorld(t, f)
		s := w.mustOpen(stream.WithEndless())
		receiving(s)
		require.NoError(t, s.SendFrom(numbersOf(5, nil)))
		rest(time.Second)
		w.Cut(testnet.RST)
		rest(time.Minute)
		require.Len(t, closed, 2, "attempts that were half-closed")
		require.Equal(t, []int{5, 0}, []int{<-closed, <-closed}, "messages before the half-close")
		require.ErrorContains(t, s.Send(item(6)), "after CloseSend")
	})
}

// The end of the stream is told, and is no success: OK is no receipt (invariant 32).
func TestSendFromEndsWithTheStream(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler func(bidi) error
		n       uint64
		reason  stream.Reason
		text    string
	}{
		"OK, not acknowledged": {func(b bidi) error { _, err := countToEnd(b); return err }, 3, stream.ReasonUnacked, "3 messages were sent, and 0"},
		"OK before the end":    {func(bidi) error { return nil }, 1 << 40, stream.ReasonUnacked, "the stream ended before the source"},
		"a last word":          {func(bidi) error { return errLastWord }, 1 << 40, stream.ReasonServer, "the server's last word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cb := callbacks{Acked: func(m *response) (uint64, bool) { return frameOf(m).seq, frameOf(m).kind == ack }}
				s := scripted(t, c.handler).mustDial(cb)
				err := s.SendFrom(numbersOf(c.n, nil))
				requireReason(t, err, c.reason, "SendFrom")
				require.ErrorContains(t, err, c.text)
				require.NotErrorIs(t, err, io.EOF)
				if name == "OK, not acknowledged" {
					requireReason(t, drain(s), stream.ReasonUnacked, "Recv")
				}
			})
		})
	}
	t.Run("Close", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newWorld(t, &feed{handler: newPuppet().handle}).mustOpen()
			done := make(chan error, 1)
			go func() { done <- s.SendFrom(numbersOf(3, nil)) }() // ends with the stream
			rest(time.Second)
			require.NoError(t, s.Close())
			requireReason(t, within(t, done, "the return of SendFrom"), stream.ReasonClosed, "SendFrom")
		})
	})
}

// With WithOKAcknowledges OK is the receipt: no acknowledgement on the way is needed.
func TestSendFromWithOKAsReceipt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := 0
		count := func(b bidi) error { n, err := countToEnd(b); seen = n; return err }
		dies := func(b bidi) error { _, _ = b.Recv(); return errGone }
		s := scripted(t, dies, count).mustDial(callbacks{}, stream.WithOKAcknowledges())
		require.NoError(t, s.SendFrom(numbersOf(5, nil)))
		require.Equal(t, 5, seen, "messages of the attempt that ended with OK")
		require.ErrorIs(t, drain(s), io.EOF)
	})
}

// A new process goes on with what an earlier one began, and what Send has sent before is not pulled.
func TestSendFromCountsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &feed{}
		for seq := range uint64(4) {
			f.store(seq + 1)
		}
		s := newWorld(t, f).mustOpen(stream.WithAtMostOnceSends())
		receiving(s)
		mustSend(t, s, 5, 6)
		var pulls []uint64
		require.NoError(t, s.SendFrom(numbersOf(9, &pulls)))
		require.Equal(t, []uint64{6}, pulls)
		require.Equal(t, upTo(9), f.stored)
	})
}

// bulk is a server that counts what it gets, and acknowledges every sixteenth message.
type bulk struct {
	testpb.UnimplementedTestServiceServer

	has, bytes atomic.Uint64
	got        func(seq uint64)
}

func (b *bulk) FullDuplexCall(s bidi) error {
	if err := greet(s, b.has.Load()); err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f := frameOf(m)
		if b.has.CompareAndSwap(f.seq-1, f.seq) { // an older handler may be at it, too
			b.bytes.Add(uint64(len(m.GetPayload().GetBody())))
			if b.got != nil {
				b.got(f.seq)
			}
		}
		if f.seq%16 == 0 {
			if err := s.Send(frame{kind: ack, seq: f.seq}.response()); err != nil {
				return err
			}
		}
	}
}

// 2 GiB over twenty cuts take no more memory than on a bare stream. It takes some seconds, so it is skipped with -short.
func TestSendFromNeedsNoMemory(t *testing.T) { //nolint:paralleltest // it measures the heap of the whole process
	if testing.Short() {
		t.Skip("2 GiB take some seconds")
	}
	skipHeapUnderRace(t)
	const size, cuts = 256 << 10, 20
	const messages = 2 << 30 / size
	m := frame{kind: data, size: size - 9}.request() // nothing is kept, so one is enough
	var peak uint64
	generate := func(after uint64) iter.Seq2[*request, error] {
		return func(yield func(*request, error) bool) {
			for seq := after + 1; seq <= messages; seq++ {
				copy(m.Payload.Body, frame{kind: data, seq: seq}.payload().GetBody())
				if seq%256 == 0 {
					peak = max(peak, liveHeap())
				}
				if !yield(m, nil) {
					return
				}
			}
		}
	}

	w := newWorldOf(t, &feed{}, &bulk{})
	bare, err := testpb.NewTestServiceClient(w.conn).FullDuplexCall(t.Context())
	require.NoError(t, err)
	require.NoError(t, bare.Send(frame{kind: hello}.request()))
	for m := range generate(messages / 4 * 3) { // a quarter is enough
		require.NoError(t, bare.Send(m))
	}
	require.NoError(t, bare.CloseSend())
	_, _ = bare.Recv()
	base := peak
	peak = 0

	server := &bulk{}
	w = newWorldOf(t, &feed{}, server)
	server.got = func(seq uint64) {
		if step := uint64(messages / (cuts + 1)); seq%step == 0 && seq/step <= cuts {
			go w.Cut(testnet.RST) // ends at once
		}
	}
	s := w.mustDial((&feed{}).callbacks(), stream.WithStableFor(0))
	require.NoError(t, s.SendFrom(generate))
	require.EqualValues(t, messages, server.has.Load(), "messages that the server has")
	require.EqualValues(t, 2<<30, server.bytes.Load(), "bytes that the server has")
	require.Equal(t, uint64(cuts), s.Stats().Outages, "cuts")
	t.Logf("live heap at most: bare %d KiB, SendFrom %d KiB; sent again: %d", base>>10, peak>>10, s.Stats().Replayed)
	require.Less(t, peak, base+32<<20, "live heap at most, beside bare %d", base)
}

// liveHeap returns how much of the heap is in use.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

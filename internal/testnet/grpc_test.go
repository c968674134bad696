//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"io"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const sent = 5 // messages sent in each of the tests below

// waitForReady makes a call wait for a connection.
var waitForReady = grpc.WaitForReady(true)

// counter counts what an application has received.
type counter struct {
	n    atomic.Int32
	each chan int // buffered for all
}

func newCounter() *counter { return &counter{each: make(chan int, 2*sent)} }

func (c *counter) add() { c.each <- int(c.n.Add(1)) }

// reaches waits for n messages.
func (c *counter) reaches(n int) {
	for int(c.n.Load()) < n {
		<-c.each
	}
}

// settle lets everything happen that can. Over TCP that cannot be known.
func (w *world) settle() {
	if w.memory() {
		synctest.Wait()
	}
}

// forEachFault runs a test for every fault at every message of a direction, in both worlds.
func forEachFault(t *testing.T, d Direction, test func(t *testing.T, w *world, f Fault, happened <-chan Cut)) {
	t.Helper()
	for kind := FIN; kind <= Refusal; kind++ {
		for where := Before; where <= After; where++ {
			for n := 1; n <= sent; n++ {
				f := Fault{Kind: kind, Direction: d, Message: n, Where: where}
				if other(kind, d) {
					continue // TestStallTheOtherWay, TestBlackHoleOneWay
				}
				t.Run(f.String(), func(t *testing.T) {
					t.Parallel()
					inBoth(t, func(t *testing.T, w *world) {
						happened := make(chan Cut, 1)
						w.OnCut(func(c Cut) { happened <- c })
						w.Arm(f)
						place := f
						if kind == Truncate {
							place.Where = Inside
						}
						test(t, w, place, happened)
					})
				})
			}
		}
	}
}

// other tells whether the kind is about the other direction than d.
func other(kind Kind, d Direction) bool {
	if d == ToClient {
		return kind == StallToServer || kind == BlackHoleToServer
	}
	return kind == StallToClient || kind == BlackHoleToClient
}

// What a gRPC client hands over is exact: messages that have arrived come before the error.
func TestClientReceives(t *testing.T) {
	t.Parallel()
	forEachFault(t, ToClient, func(t *testing.T, w *world, f Fault, happened <-chan Cut) {
		service := w.serve(t, func(s serverStream) error {
			for range sent {
				if err := s.Send(&response{Payload: sized(10)}); err != nil {
					return err
				}
			}
			<-s.Context().Done()
			return s.Context().Err()
		})
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		got, failed := newCounter(), make(chan error, 1)
		go func() { // ends with the stream; the test waits
			for {
				if _, err := stream.Recv(); err != nil {
					failed <- err
					return
				}
				got.add()
			}
		}()
		<-happened
		switch f.Kind {
		case FIN, RST, Truncate, Refusal:
		case BlackHole, BlackHoleToServer, BlackHoleToClient:
			got.reaches(wholeAt(f))
			w.settle()
			assert.Empty(t, failed, "the stream stays open")
			w.Heal()
		case StallToServer, StallToClient:
			got.reaches(wholeAt(f))
			w.settle()
			assert.EqualValues(t, wholeAt(f), got.n.Load())
			assert.Empty(t, failed, "the stream stays open")
			w.Heal()
			got.reaches(sent)
			w.Cut(FIN)
			f.Where, f.Message = After, sent
		}
		assert.Equal(t, codes.Unavailable, status.Code(<-failed))
		if f.Kind == FIN || w.memory() {
			assert.EqualValues(t, wholeAt(f), got.n.Load())
		}
		assert.LessOrEqual(t, int(got.n.Load()), wholeAt(f))
	})
}

// What a gRPC handler gets is exact only while its context lives.
func TestServerReceives(t *testing.T) {
	t.Parallel()
	forEachFault(t, ToServer, func(t *testing.T, w *world, f Fault, happened <-chan Cut) {
		got, ended := newCounter(), make(chan error, 1)
		service := w.serve(t, func(s serverStream) error {
			for {
				if _, err := s.Recv(); err != nil {
					ended <- err
					return err
				}
				got.add()
			}
		})
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		for range sent {
			if err := stream.Send(&request{Payload: sized(10)}); err != nil {
				require.Equal(t, io.EOF, err)
			}
		}
		<-happened
		switch f.Kind {
		case FIN, RST, Truncate, Refusal:
			_, err := stream.Recv()
			assert.Equal(t, codes.Unavailable, status.Code(err))
		case BlackHole, BlackHoleToServer, BlackHoleToClient:
			got.reaches(wholeAt(f))
			w.settle()
			assert.Empty(t, ended, "the handler goes on")
			w.Heal()
			_, err := stream.Recv()
			assert.Equal(t, codes.Unavailable, status.Code(err))
			assert.EqualValues(t, wholeAt(f), got.n.Load())
		case StallToServer, StallToClient:
			got.reaches(wholeAt(f))
			w.settle()
			assert.EqualValues(t, wholeAt(f), got.n.Load())
			w.Heal()
			require.NoError(t, stream.CloseSend())
			assert.Equal(t, io.EOF, <-ended)
			assert.EqualValues(t, sent, got.n.Load())
			return
		}
		w.settle()
		assert.LessOrEqual(t, int(got.n.Load()), wholeAt(f))
	})
}

// A sender that meets a stall is held up by flow control, while the other direction flows.
func TestStallHoldsTheSenderUp(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		const size, all = 10 << 10, 200
		talk := make(chan struct{})
		service := w.serve(t, func(s serverStream) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			for range talk {
				if err := s.Send(&response{}); err != nil {
					return err
				}
			}
			for n := 1; ; n++ {
				if _, err := s.Recv(); err != nil {
					return status.Error(codes.Aborted, strconv.Itoa(n))
				}
			}
		})
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.Send(&request{}))
		talk <- struct{}{}
		_, err = stream.Recv()
		require.NoError(t, err)

		w.Cut(StallToServer)
		var accepted atomic.Int32
		done := make(chan struct{})
		go func() { // ends when all is sent; the test waits
			defer close(done)
			for range all - 1 {
				assert.NoError(t, stream.Send(&request{Payload: sized(size)}))
				accepted.Add(1)
			}
			assert.NoError(t, stream.CloseSend())
		}()
		for range 20 {
			talk <- struct{}{}
			_, err := stream.Recv()
			require.NoError(t, err, "the other direction flows")
		}
		close(talk)
		w.settle()
		assert.Less(t, int(accepted.Load()), 20, "Send waits for flow control")
		w.Heal()
		<-done
		_, err = stream.Recv()
		assert.Equal(t, strconv.Itoa(all), status.Convert(err).Message(), "everything has arrived")
	})
}

func TestStallTheOtherWay(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		w.Arm(Fault{Kind: StallToClient, Direction: ToServer, Message: 2, Where: Before})
		forwarded := make(chan int, 2)
		w.OnMessage(func(_ int, d Direction, n int) {
			if d == ToServer {
				forwarded <- n
			}
		})
		service := w.serve(t, echo)
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.Send(&request{}))
		_, err = stream.Recv()
		require.NoError(t, err)
		require.NoError(t, stream.Send(&request{}))
		assert.Equal(t, []int{1, 2}, []int{<-forwarded, <-forwarded}, "requests go on")
		w.settle()
		assert.Equal(t, 1, w.Stats().ToClient.Messages, "answers do not")
		w.Heal()
		_, err = stream.Recv()
		require.NoError(t, err)
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		service := w.serve(t, echo)
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		roundTrip := func() time.Duration {
			start := time.Now()
			require.NoError(t, stream.Send(&request{}))
			_, err := stream.Recv()
			require.NoError(t, err)
			return time.Since(start)
		}
		roundTrip()
		const delay = 20 * time.Millisecond
		w.Delay(delay)
		if took := roundTrip(); w.memory() {
			assert.Equal(t, 2*delay, took)
		} else {
			assert.GreaterOrEqual(t, took, 2*delay)
		}
		if w.memory() {
			w.Heal()
			time.Sleep(delay) // what is under way still has to arrive
			assert.Zero(t, roundTrip())
		}
	})
}

// Messages under way do not wait for each other: the delay is one of time, not of throughput.
func TestDelayIsPipelined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
		service := w.serve(t, echo)
		stream, err := service.FullDuplexCall(t.Context())
		require.NoError(t, err)
		w.Delay(time.Second)
		start := time.Now()
		for range 20 {
			require.NoError(t, stream.Send(&request{}))
			time.Sleep(time.Millisecond)
		}
		for range 20 {
			_, err := stream.Recv()
			require.NoError(t, err)
		}
		assert.Equal(t, 2*time.Second+19*time.Millisecond, time.Since(start))
	})
}

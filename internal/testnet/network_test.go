//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// talk sends and receives on new streams, one after the other, until the given number has broken or limit messages
// were echoed. It returns how many echoes each stream got.
func talk(t *testing.T, open func() (clientStream, error), streams, limit int) []int {
	t.Helper()
	echoes := make([]int, 0, streams)
	for range streams {
		stream, err := open()
		require.NoError(t, err)
		n := 0
		for n < limit {
			if stream.Send(&request{}) != nil {
				break
			}
			if _, err := stream.Recv(); err != nil {
				break
			}
			n++
		}
		echoes = append(echoes, n)
		if n == limit {
			require.NoError(t, stream.CloseSend())
			_, err := stream.Recv()
			require.ErrorIs(t, err, io.EOF)
		}
	}
	return echoes
}

// opener opens streams that wait for a connection.
func (w *world) opener(t *testing.T) func() (clientStream, error) {
	t.Helper()
	service := w.serve(t, func(s serverStream) error {
		if err := echo(s); !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	})
	return func() (clientStream, error) {
		return service.FullDuplexCall(t.Context(), waitForReady)
	}
}

func TestArmedFaultsReachLaterConnections(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		f := Fault{Kind: FIN, Direction: ToClient, Message: 3, Where: Before}
		w.Arm(f, f)
		assert.Equal(t, []int{2, 2, 4}, talk(t, open, 3, 4), "one fault for each connection")
		assert.Equal(t, 3, w.Stats().Connections)
	})
}

func TestArmTakesTheNearestFirst(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 4}, Fault{Kind: FIN, Direction: ToClient, Message: 2})
		assert.Equal(t, []int{1, 3, 5}, talk(t, open, 3, 5))
	})
}

func TestArmTakesTheNearestFirstInAMessage(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		for _, where := range []Where{After, Before, Inside} {
			w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 2, Where: where})
		}
		assert.Equal(t, []int{1, 1, 2, 5}, talk(t, open, 4, 5))
		places := make([]Where, 0, 3)
		for _, c := range w.Cuts() {
			places = append(places, c.Where)
		}
		assert.Equal(t, []Where{Before, Inside, After}, places)
	})
}

func TestArmInOrder(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.ArmInOrder(Fault{Kind: FIN, Direction: ToClient, Message: 4}, Fault{Kind: FIN, Direction: ToClient, Message: 2})
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5))
	})
}

func TestFaultOfOneConnection(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(
			Fault{Kind: FIN, Direction: ToClient, Message: 2, Connection: 2},
			Fault{Kind: FIN, Direction: ToClient, Message: 4, Connection: 1},
		)
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5))
	})
}

func TestFaultInTotal(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		assert.Equal(t, []int{3}, talk(t, open, 1, 3))
		w.ArmInOrder(
			Fault{Kind: FIN, Direction: ToClient, Message: 3, Where: After, Total: true},
			Fault{Kind: FIN, Direction: ToClient, Message: 1, Where: After, Total: true},
		)
		assert.Equal(t, []int{3, 1, 5}, talk(t, open, 3, 5), "counting starts when a fault is armed")
		assert.Equal(t, []int{6, 1}, []int{w.Cuts()[0].Message, w.Cuts()[1].Message}, "numbers on the connection")
	})
}

func TestDisarm(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: FIN, Direction: ToClient, Message: 2})
		w.Disarm()
		assert.Equal(t, []int{5}, talk(t, open, 1, 5))
	})
}

func TestFaultAtTheFirstByte(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		w.Arm(Fault{Kind: RST, Direction: ToClient}) // a server that never says a word
		assert.Equal(t, []int{2}, talk(t, open, 1, 2), "the client has connected again")
		assert.Equal(t, 2, w.Stats().Connections)
		assert.Equal(t, map[Kind]int{RST: 1}, w.Stats().Cuts)
	})
}

func TestFaultsEndByThemselves(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		open := w.opener(t)
		const long = 20 * time.Millisecond
		w.Arm(Fault{Kind: StallToServer, Direction: ToServer, Message: 2, For: long})
		start := time.Now()
		assert.Equal(t, []int{3}, talk(t, open, 1, 3))
		assert.GreaterOrEqual(t, time.Since(start), long)
		w.Arm(Fault{Kind: BlackHole, Direction: ToServer, Message: 5, For: long})
		assert.Equal(t, []int{1}, talk(t, open, 1, 3), "a black hole ends with a reset")
		assert.GreaterOrEqual(t, time.Since(start), 2*long)
	})
}

func TestCutNow(t *testing.T) {
	t.Parallel()
	for kind := FIN; kind <= Truncate; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			inBoth(t, func(t *testing.T, w *world) {
				open := w.opener(t)
				stream, err := open()
				require.NoError(t, err)
				require.NoError(t, stream.Send(&request{}))
				_, err = stream.Recv()
				require.NoError(t, err)
				assert.Equal(t, 1, w.Stats().Live)
				w.settle()

				w.Cut(kind)
				_ = stream.Send(&request{})
				switch kind {
				case BlackHole:
					w.settle()
					assert.Equal(t, 1, w.Stats().ToServer.Messages, "nothing gets through")
					assert.Equal(t, 1, w.Stats().Live)
					w.Heal()
				case StallToServer, StallToClient:
					w.settle()
					assert.Equal(t, 1, w.Stats().ToClient.Messages, "nothing gets through")
					w.Heal()
					_, err := stream.Recv()
					require.NoError(t, err)
					w.Cut(FIN)
				case FIN, RST, Truncate:
				}
				_, err = stream.Recv()
				assert.Equal(t, codes.Unavailable, status.Code(err))
				assert.Equal(t, 1, w.Stats().Cuts[kind])
				assert.Zero(t, w.Stats().Live)
			})
		})
	}
}

func TestCutOneConnection(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		first, second := w.wire(t), w.wire(t)
		w.Cut(FIN, 2)
		_, err := second.client.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		_, err = first.client.Write([]byte(clientPreface))
		require.NoError(t, err)
		_, err = io.ReadFull(first.server, make([]byte, len(clientPreface)))
		require.NoError(t, err, "the other connection goes on")
		assert.Equal(t, []Cut{{Kind: FIN, Connection: 2}}, w.Cuts())
	})
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		service := w.serve(t, echo)
		w.Refuse(true)
		stream, err := service.FullDuplexCall(t.Context())
		if err == nil {
			_, err = stream.Recv()
		}
		assert.Equal(t, codes.Unavailable, status.Code(err))
		assert.Zero(t, w.Stats().Connections)
		assert.Positive(t, w.Stats().Refused)
		w.Heal()
		stream, err = service.FullDuplexCall(t.Context(), waitForReady)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&request{}))
		_, err = stream.Recv()
		require.NoError(t, err)
	})
}

func TestOnMessage(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		w.OnMessage(func(connection int, d Direction, n int) {
			assert.Equal(t, 1, connection)
			if d == ToClient && n == 3 {
				w.Cut(FIN)
			}
		})
		c := w.wire(t)
		_, err := c.server.Write(sampleTraffic(ToClient, 6, 6*messageSize))
		require.NoError(t, err)
		in, err := io.ReadAll(c.client)
		require.NoError(t, err)
		assert.Len(t, decode(in).partial[1], 3*messageSize, "message 4 waits until the function returns")
		w.OnMessage(nil)
		w.OnCut(nil)
	})
}

func TestStats(t *testing.T) {
	t.Parallel()
	inBoth(t, func(t *testing.T, w *world) {
		c := w.wire(t)
		up, down := sampleTraffic(ToServer, 4, 4*messageSize), sampleTraffic(ToClient, 2, messageSize)
		_, err := c.client.Write(up)
		require.NoError(t, err)
		_, err = c.server.Write(down)
		require.NoError(t, err)
		require.NoError(t, c.client.CloseWrite())
		require.NoError(t, c.server.CloseWrite())
		_, err = io.ReadAll(c.client)
		require.NoError(t, err)
		_, err = io.ReadAll(c.server)
		require.NoError(t, err)
		require.NoError(t, w.close())
		assert.Equal(t, Stats{
			Connections: 1,
			Cuts:        map[Kind]int{},
			ToServer:    Traffic{Messages: 4, Bytes: int64(len(up) + 3*frameHeaderSize)}, // one frame has become four
			ToClient:    Traffic{Messages: 2, Bytes: int64(len(down))},
		}, w.Stats())
	})
}

// writeSpy is an end that calls a function when it is written to.
type writeSpy struct {
	*memoryConn
	written func()
}

func (c writeSpy) Write(b []byte) (int, error) {
	c.written()
	return c.memoryConn.Write(b)
}

// Who has received a message finds it counted.
func TestStatsCountBeforeTheMessageArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		client, clientSide := memoryPair("client", "network")
		serverSide, _ := memoryPair("network", "server")
		done := make(chan Traffic, 1)
		require.True(t, n.join(clientSide, writeSpy{serverSide, func() { done <- n.Stats().ToServer }}))
		traffic := sampleTraffic(ToServer, 3, messageSize)
		_, err := client.Write(traffic)
		require.NoError(t, err)
		assert.Equal(t, Traffic{Messages: 3, Bytes: int64(len(traffic))}, <-done)
		n.close()
		n.running.Wait()
	})
}

// Whatever state a connection is in, Close ends it and all goroutines: the bubble and goleak see to that.
func TestCloseInAnyState(t *testing.T) {
	t.Parallel()
	for kind := FIN; kind <= Truncate; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			inBoth(t, func(t *testing.T, w *world) {
				c := w.wire(t)
				w.Delay(time.Hour)
				_, err := c.client.Write(sampleTraffic(ToServer, 4, messageSize))
				require.NoError(t, err)
				w.settle()
				w.Cut(kind)
				if kind == StallToClient {
					flooded := make(chan struct{})
					go func() { // ends when Close resets the connection
						defer close(flooded)
						for err == nil {
							_, err = c.server.Write(make([]byte, readSize))
						}
					}()
					w.settle()
					defer func() { <-flooded }()
				}
				require.NoError(t, w.close())
				require.NoError(t, w.close(), "twice")
				_, dialled := w.dial(t.Context())
				require.Error(t, dialled)
			})
		})
	}
}

func TestServerStartsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		_, err := m.Dial(t.Context(), "x")
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "nobody listens yet")
		for range 2 {
			l := m.Listener()
			dialled := make(chan net.Conn, 1)
			go func() { // ends when the connection is accepted below
				c, err := m.Dial(t.Context(), "x")
				assert.NoError(t, err)
				dialled <- c
			}()
			server, err := l.Accept()
			require.NoError(t, err)
			assert.Equal(t, "network", server.RemoteAddr().String())
			assert.Equal(t, "server", server.LocalAddr().String())
			require.NoError(t, l.Close())
			require.NoError(t, server.Close())
			_, err = (<-dialled).Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
			_, err = l.Accept()
			require.ErrorIs(t, err, net.ErrClosed)
			_, err = m.Dial(t.Context(), "x")
			require.ErrorIs(t, err, syscall.ECONNREFUSED)
		}
		m.Listener()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = m.Dial(ctx, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded, "nobody accepts")
		require.NoError(t, m.Close())
	})
}

func TestTCPResetsWhatItRefuses(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{true, false} {
		p, err := NewTCP("127.0.0.1:1") // nobody listens there
		require.NoError(t, err)
		p.Refuse(refuse)
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Addr())
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			require.NoError(t, c.Close())
		}
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.Equal(t, 1, p.Stats().Refused)
		require.NoError(t, p.Close())
	}
}

func TestJoinAfterClose(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	require.True(t, n.close())
	client, clientSide := memoryPair("client", "network")
	serverSide, server := memoryPair("network", "server")
	require.False(t, n.join(clientSide, serverSide))
	for _, c := range []*memoryConn{client, server} {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	assert.Zero(t, n.Stats().Connections)
}

func TestChaosPlan(t *testing.T) {
	t.Parallel()
	draw := func(c Chaos) []Fault {
		next := c.plan()
		var out []Fault
		for range 200 {
			f, ok := next()
			if !ok {
				break
			}
			out = append(out, f)
		}
		return out
	}
	seed := rand.Uint64()
	plan := draw(Chaos{Seed: seed, Messages: 10})
	assert.Equal(t, plan, draw(Chaos{Seed: seed, Messages: 10}))
	assert.NotEqual(t, plan, draw(Chaos{Seed: seed + 1, Messages: 10}))
	sum := 0
	for _, f := range plan {
		assert.Contains(t, []Kind{FIN, RST}, f.Kind)
		assert.Positive(t, f.Message)
		sum += f.Message
	}
	assert.InDelta(t, 10, float64(sum)/200, 3, "the mean")
	assert.Len(t, draw(Chaos{Limit: 7}), 7)
	narrow := Chaos{Bytes: 100, Kinds: []Kind{BlackHole}, Directions: []Direction{ToClient}, Places: []Where{After}}
	narrow.For = time.Second
	for _, f := range draw(narrow) {
		assert.Zero(t, f.Message)
		assert.LessOrEqual(t, f.Bytes, int64(200))
		f.Bytes = 0
		assert.Equal(t, Fault{Kind: BlackHole, Direction: ToClient, Where: After, Total: true, For: time.Second}, f)
	}
}

func TestChaosIsRepeatable(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (cuts []Cut) {
		synctest.Test(t, func(t *testing.T) {
			m := NewMemory()
			w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
			open := w.opener(t)
			stop := w.Chaos(Chaos{Seed: seed, Messages: 5, Kinds: []Kind{FIN, RST, StallToClient, Truncate}, For: time.Second})
			talk(t, open, 20, 12)
			cuts = w.Cuts()
			stop()
			before := len(cuts)
			talk(t, open, 1, 100)
			assert.Len(t, w.Cuts(), before, "no more")
		})
		return cuts
	}
	first := run(1)
	assert.Greater(t, len(first), 10)
	assert.Equal(t, first, run(1))
	assert.NotEqual(t, first, run(2))
}

func TestNames(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "FIN after message 3 to client", Fault{Direction: ToClient, Message: 3, Where: After}.String())
	assert.Equal(t, "truncate after 7 bytes to server", Fault{Kind: Truncate, Bytes: 7}.String())
	assert.Equal(t, "9", Kind(9).String())
}

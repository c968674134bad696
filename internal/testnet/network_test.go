//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestCutNow(t *testing.T) {
	t.Parallel()
	for kind := FIN; kind <= Refusal; kind++ {
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
				case BlackHole, BlackHoleToServer, BlackHoleToClient:
					w.settle()
					if kind != BlackHoleToClient {
						assert.Equal(t, 1, w.Stats().ToServer.Messages, "nothing gets through")
					}
					assert.Equal(t, 1, w.Stats().ToClient.Messages, "nothing comes back")
					assert.Equal(t, 1, w.Stats().Live)
					w.Heal()
				case StallToServer, StallToClient:
					w.settle()
					assert.Equal(t, 1, w.Stats().ToClient.Messages, "nothing gets through")
					w.Heal()
					_, err := stream.Recv()
					require.NoError(t, err)
					w.Cut(FIN)
				case FIN, RST, Truncate, Refusal:
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
		assert.Equal(t, []Cut{{Kind: FIN, Connection: 2}}, timeless(w.Cuts()))
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
	for kind := FIN; kind <= Refusal; kind++ {
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

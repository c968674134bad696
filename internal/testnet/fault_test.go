//nolint:thelper // the functions that inBoth runs are tests, not helpers
package testnet

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "FIN after message 3 to client", Fault{Direction: ToClient, Message: 3, Where: After}.String())
	assert.Equal(t, "truncate after 7 bytes to server", Fault{Kind: Truncate, Bytes: 7}.String())
	assert.Equal(t, "refusal after 2s", Fault{Kind: Refusal, Time: 2 * time.Second}.String())
	assert.Equal(t, "black hole to client", BlackHoleToClient.String())
	assert.Equal(t, "9", Kind(9).String())
}

func TestBlackHoleOneWay(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{ToServer, ToClient} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			inBoth(t, func(t *testing.T, w *world) {
				kind := []Kind{BlackHoleToServer, BlackHoleToClient}[d]
				dark := make(chan Cut, 1)
				w.OnCut(func(c Cut) { dark <- c })
				w.Arm(Fault{Kind: kind, Direction: d, Message: 2, Where: After})
				c := w.wire(t)
				from, to := c.ends(d)
				_, err := from.Write(sampleTraffic(d, 6, messageSize))
				require.NoError(t, err)
				assert.Equal(t, kind, (<-dark).Kind)
				assert.Equal(t, 1, w.Stats().Live)

				back := sampleTraffic(1-d, 3, messageSize)
				_, err = to.Write(back)
				require.NoError(t, err)
				_, err = io.ReadFull(from, make([]byte, len(back)))
				require.NoError(t, err, "the other way works")
				require.NoError(t, from.CloseWrite(), "that vanishes as well")
				w.settle()
				assert.Equal(t, 2, []Traffic{w.Stats().ToServer, w.Stats().ToClient}[d].Messages)

				w.Heal()
				in, err := io.ReadAll(to)
				require.ErrorContains(t, err, "connection reset by peer", "after Heal the connection is of no use")
				assert.LessOrEqual(t, received(d, in).messages(), 2)
			})
		})
	}
}

func TestRefusalLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
		w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
		t.Cleanup(func() { require.NoError(t, w.close()) })
		w.Arm(Fault{Kind: Refusal, Direction: ToServer, Message: 1, For: time.Second})
		c := w.wire(t)
		_, err := c.client.Write(sampleTraffic(ToServer, 1, messageSize))
		require.NoError(t, err)
		_, err = io.ReadAll(c.client)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = w.dial(t.Context())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		time.Sleep(time.Second)
		w.wire(t)
		w.Cut(Refusal)
		time.Sleep(time.Hour)
		_, err = w.dial(t.Context())
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "by hand it lasts until Heal")
		w.Heal()
		w.wire(t)
	})
}

func TestFaultByTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
		w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
		t.Cleanup(func() { require.NoError(t, w.close()) })
		begun := time.Now()
		w.ArmInOrder(
			Fault{Kind: RST, Time: time.Second},
			Fault{Kind: FIN, Time: time.Second},                                                 // nobody is there: the next connection
			Fault{Kind: StallToServer, Time: time.Second, Connection: 4, For: 10 * time.Second}, // only that one
		)
		w.Arm(Fault{Kind: FIN, Time: time.Minute}) // is taken away
		first, second := w.wire(t), w.wire(t)
		for _, c := range []wire{first, second} {
			_, err := io.ReadAll(c.client)
			require.ErrorIs(t, err, syscall.ECONNRESET)
			assert.Equal(t, time.Second, time.Since(begun))
		}
		time.Sleep(time.Hour)
		w.Disarm() // the last two, which have not happened
		assert.Len(t, w.Cuts(), 2)

		w.Arm(Fault{Kind: FIN, Time: time.Second})
		time.Sleep(time.Minute)
		third := w.wire(t)
		_, err := third.client.Write([]byte(clientPreface))
		require.NoError(t, err)
		in, err := io.ReadAll(third.server)
		require.NoError(t, err)
		assert.Empty(t, in, "at the first byte")

		w.Arm(Fault{Kind: StallToServer, Time: time.Second, Connection: 4, For: 10 * time.Second})
		fourth := w.wire(t)
		time.Sleep(2 * time.Second)
		begun = time.Now()
		_, err = fourth.client.Write([]byte(clientPreface))
		require.NoError(t, err)
		_, err = io.ReadFull(fourth.server, make([]byte, len(clientPreface)))
		require.NoError(t, err)
		assert.Equal(t, 9*time.Second, time.Since(begun))
		w.Arm(Fault{Kind: Truncate, Time: time.Second})
		time.Sleep(2 * time.Second)
		_, err = fourth.client.Write(frame(nil, 6, 0, 0, make([]byte, 8)))
		require.NoError(t, err)
		in, err = io.ReadAll(fourth.server)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		assert.NotEmpty(t, in)
	})
}

// A fault by time happens to one connection if it says so, and not at all if it is taken away.
func TestFaultByTimeOfOneConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
		w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
		t.Cleanup(func() { require.NoError(t, w.close()) })
		first, second := w.wire(t), w.wire(t)
		w.Arm(Fault{Kind: RST, Time: time.Minute})
		w.Disarm()
		w.Arm(Fault{Kind: FIN, Time: time.Second, Connection: 2})
		time.Sleep(time.Hour)
		assert.Equal(t, []Cut{{Kind: FIN, Connection: 2}}, timeless(w.Cuts()))
		_, err := io.ReadAll(second.client)
		require.NoError(t, err)
		_, err = first.client.Write([]byte(clientPreface))
		require.NoError(t, err)
		_, err = io.ReadFull(first.server, make([]byte, len(clientPreface)))
		require.NoError(t, err)
	})
}

// While it stands still the peer has what was forwarded, and nothing comes back.
func TestPauseBeforeFault(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{FIN, RST, Refusal, BlackHole} {
		synctest.Test(t, func(t *testing.T) {
			m := NewMemory()
			w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
			w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
			t.Cleanup(func() { require.NoError(t, w.close()) })
			w.Arm(Fault{Kind: kind, Direction: ToServer, Message: 2, Where: After, Pause: time.Second})
			c := w.wire(t)
			_, err := c.client.Write(sampleTraffic(ToServer, 5, messageSize))
			require.NoError(t, err)
			synctest.Wait()
			assert.Equal(t, 2, w.Stats().ToServer.Messages)
			assert.Empty(t, w.Cuts())
			_, err = c.server.Write(sampleTraffic(ToClient, 1, messageSize))
			require.NoError(t, err)
			synctest.Wait()
			assert.Zero(t, w.Stats().ToClient, "nothing comes back")
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Len(t, w.Cuts(), 1)
			w.Heal()
			back, _ := io.ReadAll(c.client)
			assert.Empty(t, back, "nor does it later")
		})
	}
}

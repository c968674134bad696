package testnet

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		w := &world{Network: m.Network, name: "memory", listener: m.Listener(), client: m.Client, close: m.Close}
		w.dial = func(ctx context.Context) (net.Conn, error) { return m.Dial(ctx, "memory") }
		t.Cleanup(func() { require.NoError(t, w.close()) })
		assert.Nil(t, w.Passages(), "nobody wants to know")
		w.Record()
		w.Arm(Fault{Kind: RST, Direction: ToServer, Message: 3, Where: Inside, Connection: 1})
		messages := body(body(body(body(nil, 30), 40), 30), 10)
		for _, size := range []int{len(messages), 7} { // how messages lie in frames makes no difference
			c := w.wire(t)
			in := []byte(clientPreface)
			for rest := messages; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				in = frame(in, 0, 0, 1, rest[:min(size, len(rest))])
			}
			_, err := c.client.Write(in)
			require.NoError(t, err)
			require.NoError(t, c.client.CloseWrite())
			_, _ = io.ReadAll(c.server)
		}
		got := w.Passages()
		require.Len(t, got, 2)
		assert.Equal(t, [2]int{3, 0}, got[0].Begun, "half of a message")
		require.Len(t, got[0].Sums[ToServer], 2)
		require.Len(t, got[1].Sums[ToServer], 4)
		assert.Equal(t, got[0].Sums[ToServer], got[1].Sums[ToServer][:2], "the same messages")
		assert.Equal(t, got[1].Sums[ToServer][0], got[1].Sums[ToServer][2], "the first and the third are the same")
		assert.NotEqual(t, got[1].Sums[ToServer][0], got[1].Sums[ToServer][1])
		assert.NotEqual(t, got[1].Sums[ToServer][0], got[1].Sums[ToServer][3])
	})
}

// A peer that sends message after message does not fill our memory.
func TestRecordIsBounded(t *testing.T) {
	t.Parallel()
	n := newNetwork()
	n.Record()
	l := newLink(n, 1, nil, nil)
	for i := range maxRecorded + 100 {
		p := piece{data: []byte("12345"), message: &message{number: i + 1, size: 5}}
		n.note(l.flows[ToServer], p)
	}
	l.number = maxRecordedSessions + 1
	n.note(l.flows[ToServer], piece{data: []byte("12345"), message: &message{number: 1, size: 5}})
	got := n.Passages()
	require.Len(t, got, 1)
	assert.Len(t, got[0].Sums[ToServer], maxRecorded)
	assert.Equal(t, maxRecorded, got[0].Begun[ToServer])
}

package streamtest_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// dataFrame is a DATA frame of HTTP/2.
func dataFrame(flags byte, payload ...byte) []byte {
	out := []byte{0, 0, byte(len(payload)), 0, flags}
	out = binary.BigEndian.AppendUint32(out, 1)
	return append(out, payload...)
}

// FuzzHostilePeers has both ends send whatever there is. The network does not panic and does not hang, and what it makes of the bytes is
// no more than frames of their own for the messages in them.
func FuzzHostilePeers(f *testing.F) {
	message := []byte{0, 0, 0, 0, 3, 1, 2, 3}
	f.Add([]byte(preface), []byte{}, uint8(0), uint8(0), uint8(0), uint16(0))
	f.Add(append([]byte(preface), dataFrame(0, message...)...), dataFrame(1, message...), uint8(1), uint8(1), uint8(1), uint16(0))
	f.Add(append([]byte(preface), dataFrame(8, 200, 1)...), dataFrame(0, 0, 255, 255, 255, 255), uint8(5), uint8(2), uint8(1), uint16(7))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), uint8(7), uint8(0), uint8(0), uint16(9))
	f.Add([]byte(preface), dataFrame(0, make([]byte, 250)...), uint8(2), uint8(2), uint8(40), uint16(0))
	f.Fuzz(func(t *testing.T, up, down []byte, kind, where, message uint8, at uint16) {
		n := streamtest.NewNetwork(streamtest.WithFault(
			streamtest.Fault{
				Kind: streamtest.Kind(kind % 9), Direction: streamtest.ToServer, Where: streamtest.Where(where % 3), Message: int(message),
				Bytes: int64(at), For: time.Millisecond,
			},
			streamtest.Fault{
				Kind: streamtest.Kind(where % 9), Direction: streamtest.ToClient, Where: streamtest.Where(kind % 3), Message: int(message),
				Bytes: int64(at), Pause: time.Millisecond, For: time.Millisecond, Total: true,
			}))
		l := n.Listener()
		accepted := make(chan net.Conn, 1)
		go func() { // ends when the dial has succeeded
			c, err := l.Accept()
			assert.NoError(t, err)
			accepted <- c
		}()
		client, err := n.Dial(t.Context(), "")
		require.NoError(t, err)
		server := <-accepted
		got := make(chan int, 2)
		for _, end := range []struct {
			from, to net.Conn
			bytes    []byte
		}{{client, server, up}, {server, client, down}} {
			deadline := time.Now().Add(time.Minute)
			require.NoError(t, end.from.SetDeadline(deadline))
			go func() { // ends when all is written, or the connection has gone
				_, _ = end.from.Write(end.bytes)
				_ = end.from.(interface{ CloseWrite() error }).CloseWrite()
			}()
			go func() { // ends with the connection, or its deadline
				in, _ := io.ReadAll(end.to)
				got <- len(in)
			}()
		}
		begun := time.Now()
		first, second := <-got, <-got
		require.Less(t, time.Since(begun), 30*time.Second, "%v", n.Report())
		require.LessOrEqual(t, first+second, 4*(len(up)+len(down))+100)
		require.NoError(t, client.Close())
		require.NoError(t, server.Close())
		require.NoError(t, n.Close())
		require.LessOrEqual(t, len(n.Report().Cuts), 2)
	})
}

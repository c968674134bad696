package frames

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/streamsafe/streamsafe/stream/streamtest"
)

const (
	messages = 4
	size     = 40 // of a message, with gRPC's prefix of five bytes
)

// body is n messages, one after the other.
func body(n int) []byte {
	var out []byte
	for range n {
		out = append(out, 0)
		out = binary.BigEndian.AppendUint32(out, size-5)
		out = append(out, make([]byte, size-5)...)
	}
	return out
}

// ends are both ends of a connection through a network.
type ends struct {
	client, server net.Conn
	network        interface {
		Arm(all ...streamtest.Fault)
		Heal()
	}
}

// worlds are a connection through each network.
func worlds(t *testing.T) map[string]ends {
	t.Helper()
	network := streamtest.NewNetwork()
	proxy, err := streamtest.NewProxy("")
	require.NoError(t, err)
	listener, err := proxy.Listen()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, network.Close())
		require.NoError(t, listener.Close())
		require.NoError(t, proxy.Close())
	})
	return map[string]ends{
		"memory": connect(t, network, network.Listener(), func(ctx context.Context) (net.Conn, error) {
			return network.Dial(ctx, "")
		}),
		"tcp": connect(t, proxy, listener, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", proxy.Addr())
		}),
	}
}

func connect(t *testing.T, network interface {
	Arm(all ...streamtest.Fault)
	Heal()
}, l net.Listener, dial func(context.Context) (net.Conn, error),
) ends {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() { // ends when the dial below has succeeded
		c, err := l.Accept()
		assert.NoError(t, err)
		accepted <- c
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client, err := dial(ctx)
	require.NoError(t, err)
	e := ends{client: client, server: <-accepted, network: network}
	t.Cleanup(func() {
		_ = e.client.Close()
		_ = e.server.Close()
	})
	return e
}

// write writes messages as DATA frames, of so many bytes each.
func write(w io.Writer, frame int) error {
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	out.WriteString(http2.ClientPreface)
	err := framer.WriteSettings()
	for data := body(messages); len(data) > 0 && err == nil; data = data[min(frame, len(data)):] {
		err = framer.WriteData(1, false, data[:min(frame, len(data))])
	}
	if err == nil {
		err = framer.WritePing(false, [8]byte{})
	}
	if err == nil {
		_, err = w.Write(out.Bytes())
	}
	return err
}

// seen is what gRPC's framer reads.
type seen struct {
	data  []byte // of whole DATA frames
	pings int
	err   error
}

func read(r io.Reader) (s seen) {
	if _, s.err = io.ReadFull(r, make([]byte, len(http2.ClientPreface))); s.err != nil {
		return s
	}
	framer := http2.NewFramer(nil, r)
	for {
		var f http2.Frame
		if f, s.err = framer.ReadFrame(); s.err != nil {
			return s
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			s.data = append(s.data, f.Data()...)
		case *http2.PingFrame:
			s.pings++
		}
	}
}

// Each fault cuts where it says, however messages lie in frames, and what came before is good HTTP/2.
func TestFaultsCutAtMessages(t *testing.T) {
	t.Parallel()
	for _, kind := range []streamtest.Kind{streamtest.FIN, streamtest.RST, streamtest.Truncate, streamtest.Refusal} {
		for _, where := range []streamtest.Where{streamtest.Before, streamtest.Inside, streamtest.After} {
			for n := 1; n <= messages; n++ {
				for _, frame := range []int{3 * size, size, 7} { // several messages in one, one in each, one in several
					f := streamtest.Fault{Kind: kind, Direction: streamtest.ToServer, Message: n, Where: where}
					at := where
					if kind == streamtest.Truncate {
						at = streamtest.Inside
					}
					for name, w := range worlds(t) {
						t.Run(fmt.Sprintf("%v, frames of %d, %s", f, frame, name), func(t *testing.T) {
							t.Parallel()
							check(t, w, f, at, frame, name == "memory")
						})
					}
				}
			}
		}
	}
}

func check(t *testing.T, w ends, f streamtest.Fault, where streamtest.Where, frame int, exact bool) {
	t.Helper()
	w.network.Arm(f)
	require.NoError(t, w.server.SetReadDeadline(time.Now().Add(10*time.Second)))
	require.NoError(t, write(w.client, frame))
	whole := f.Message - 1
	if where == streamtest.After {
		whole = f.Message
	}
	got := read(w.server)
	assert.Zero(t, got.pings, "nothing comes behind the fault")
	if exact || f.Kind == streamtest.FIN {
		assert.Equal(t, whole, len(got.data)/size, "whole messages")
	}
	assert.LessOrEqual(t, len(got.data)/size, whole)
	assert.True(t, bytes.HasPrefix(body(messages), got.data), "as they were sent")
	inside := where == streamtest.Inside
	switch {
	case f.Kind != streamtest.FIN:
		assert.ErrorIs(t, got.err, syscall.ECONNRESET)
	case inside && frame >= size:
		assert.ErrorIs(t, got.err, io.ErrUnexpectedEOF, "inside a frame")
	case !inside:
		assert.ErrorIs(t, got.err, io.EOF, "between two frames")
	}
}

// Without a fault, everything arrives as it was sent, but for the borders of frames.
func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	for _, frame := range []int{3 * size, size, 7} {
		for name, w := range worlds(t) {
			t.Run(fmt.Sprintf("frames of %d, %s", frame, name), func(t *testing.T) {
				t.Parallel()
				require.NoError(t, w.server.SetReadDeadline(time.Now().Add(time.Minute)))
				require.NoError(t, write(w.client, frame))
				require.NoError(t, w.client.Close())
				got := read(w.server)
				require.ErrorIs(t, got.err, io.EOF)
				assert.Equal(t, body(messages), got.data)
				assert.Equal(t, 1, got.pings)
			})
		}
	}
}

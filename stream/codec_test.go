package stream_test

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/streamsafe/streamsafe/stream"
)

// countingCodec counts how often each numbered message is encoded.
type countingCodec struct {
	encoding.CodecV2

	mu      sync.Mutex // guards encoded
	encoded map[uint64]int
}

func newCountingCodec() *countingCodec {
	return &countingCodec{CodecV2: encoding.GetCodecV2(protocodec.Name), encoded: map[uint64]int{}}
}

func (c *countingCodec) Marshal(v any) (mem.BufferSlice, error) {
	c.count(v)
	return c.CodecV2.Marshal(v)
}

func (c *countingCodec) count(v any) {
	if f := frameOf(asRequest(v)); f.kind == data {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.encoded[f.seq]++
	}
}

// oldCodec is one of grpc's first or second kind of codec, which counts too.
type oldCodec struct{ *countingCodec }

func (c oldCodec) Marshal(v any) ([]byte, error) {
	c.count(v)
	return proto.Marshal(asRequest(v))
}

func (oldCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("a %T is no message", v)
	}
	return proto.Unmarshal(data, m)
}

func (oldCodec) String() string { return protocodec.Name }

func (oldCodec) Name() string { return protocodec.Name }

// Each message is encoded once, by the call's own codec of whatever kind, also where it is sent three times.
func TestMessagesAreEncodedOnce(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*countingCodec) grpc.CallOption{
		"ForceCodecV2": func(c *countingCodec) grpc.CallOption { return grpc.ForceCodecV2(c) },
		"ForceCodec":   func(c *countingCodec) grpc.CallOption { return grpc.ForceCodec(oldCodec{c}) },
		"CallCustomCodec": func(c *countingCodec) grpc.CallOption {
			return grpc.CallCustomCodec(oldCodec{c}) //nolint:staticcheck // deprecated, and still supported
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const n = 10
				f := &feed{total: 10}
				j := keepJournal(f)
				forgetsFirst(f, n)
				forgetsFirst(f, n)
				codec := newCountingCodec()
				s := newWorld(t, f).mustOpen(withReplay(), stream.WithCallOptions(option(codec)))
				converse(t, s, j, n)
				require.Equal(t, uint64(2*n), s.Stats().Replayed)
				require.Len(t, codec.encoded, n, "messages encoded")
				for seq, times := range codec.encoded {
					require.Equal(t, 1, times, "times that message %d was encoded", seq)
				}
			})
		})
	}
}

// Large messages come from grpc's pools; what is kept has to outlive the sending.
func TestLargeMessagesAreReplayed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 30
		f := &feed{}
		j := keepJournal(f)
		forgetsFirst(f, n)
		s := newWorld(t, f).mustOpen(withReplay())
		sent := make(chan error, 1)
		go func() { sent <- drain(s) }() // ends with the stream; a line below waits for it
		for seq := uint64(1); seq <= n; seq++ {
			m := frame{kind: data, seq: seq, size: int(seq) * 3000}.request()
			for i := range m.Payload.Body[9:] {
				m.Payload.Body[9+i] = byte(seq)
			}
			require.NoError(t, s.Send(m))
		}
		require.NoError(t, s.CloseSend())
		require.ErrorIs(t, within(t, sent, "the end of Recv"), io.EOF)
		require.Equal(t, upTo(n), f.stored)
		for i, got := range j.handlers[0].received {
			require.Equal(t, 3000*(i+1), got.size, "size of message %d", i+1)
		}
	})
}

// A codec that is not there is an error of the constructor where it has to be wrapped.
func TestUnknownContentSubtype(t *testing.T) {
	t.Parallel()
	options := map[string]stream.ClientOption{
		"with replay": withReplay(),
		"holding":     stream.HoldUntilCheckpoint(1000, stream.OverflowFail),
	}
	for name, opt := range options {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{})
				_, err := w.open(t.Context(), opt, stream.WithCallOptions(grpc.CallContentSubtype("no-such-codec")))
				requireReason(t, err, stream.ReasonOptions, "unknown content subtype")
				require.ErrorContains(t, err, "no codec is registered")
				require.Zero(t, w.Stats().Connections, "nothing is opened")
			})
		})
	}
}

// oddlyNamed is a codec of grpc's first kind, whose name is no content subtype.
type oddlyNamed struct{ oldCodec }

func (oddlyNamed) String() string { return "fast codec, v1" }

// What the server is told of the codec does not depend on whether it is wrapped. The empty subtype is proto's.
func TestContentTypeWithReplay(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]grpc.CallOption{
		"CallCustomCodec":    grpc.CallCustomCodec(oddlyNamed{oldCodec{newCountingCodec()}}), //nolint:staticcheck // deprecated, and still supported
		"ForceCodec":         grpc.ForceCodec(oldCodec{newCountingCodec()}),
		"CallContentSubtype": grpc.CallContentSubtype(protocodec.Name),
		"the empty subtype":  grpc.CallContentSubtype(""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var types []string // handlers come one after the other
				w := newWorld(t, &feed{handler: func(s bidi) error {
					md, _ := metadata.FromIncomingContext(s.Context())
					types = append(types, md.Get("content-type")...)
					return stays()(s)
				}})
				for _, opt := range []stream.ClientOption{stream.WithAtMostOnceSends(), withReplay()} {
					w.mustDial(acking(), opt, stream.WithCallOptions(option))
					synctest.Wait()
				}
				require.Len(t, types, 2)
				if name != "the empty subtype" {
					require.Equal(t, types[0], types[1], "without WithReplay, and with it")
				}
			})
		})
	}
}

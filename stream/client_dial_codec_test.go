package stream_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/streamsafe/streamsafe/stream"
)

// scrambling is a codec that the server knows by its content subtype. Think of one that encrypts.
type scrambling struct{ name string }

func (scrambling) proto() encoding.CodecV2 { return encoding.GetCodecV2(protocodec.Name) }

func (s scrambling) Marshal(v any) (mem.BufferSlice, error) {
	plain, err := s.proto().Marshal(v)
	if err != nil {
		return nil, err
	}
	defer plain.Free()
	return mem.BufferSlice{mem.SliceBuffer(scrambled(plain.Materialize()))}, nil
}

func (s scrambling) Unmarshal(data mem.BufferSlice, v any) error {
	return s.proto().Unmarshal(mem.BufferSlice{mem.SliceBuffer(scrambled(data.Materialize()))}, v)
}

func (s scrambling) Name() string { return s.name }

func scrambled(data []byte) []byte {
	for i := range data {
		data[i] ^= 0x5a
	}
	return data
}

var _ = func() bool {
	encoding.RegisterCodecV2(scrambling{"scrambled"}) // as packages do when they are imported
	return true
}()

// codecOptions are the ways to choose a codec.
func codecOptions() map[string][]grpc.CallOption {
	return map[string][]grpc.CallOption{
		"subtype": {grpc.CallContentSubtype("scrambled")},
		"forced":  {grpc.ForceCodecV2(scrambling{"scrambled"})},
	}
}

// With DialOptions the codec of WithDefaultCallOptions is the one that replay and holding wrap. Without them the application repeats
// it. The server has registered the codec, and understands nothing else.
func TestTheCodecOfTheConnection(t *testing.T) {
	t.Parallel()
	const n = 10
	for name, chosen := range codecOptions() {
		for where, test := range map[string]struct {
			world func(*testing.T, *feed, ...grpc.DialOption) *world
			opts  []stream.ClientOption
		}{
			"with DialOptions":              {dialled, nil},
			"with DialOptions, and given":   {dialled, []stream.ClientOption{stream.WithCallOptions(chosen...)}},
			"without, but the stream's own": {newWorld, []stream.ClientOption{stream.WithCallOptions(chosen...)}},
		} {
			for kept, opt := range map[string]stream.ClientOption{
				"replay": withReplay(), "holding": stream.HoldUntilCheckpoint(1<<20, stream.OverflowFail),
			} {
				t.Run(fmt.Sprintf("%s, %s, %s", name, where, kept), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						f := &feed{total: n, options: []grpc.ServerOption{grpc.ForceServerCodecV2(scrambling{"scrambled"})}}
						j := keepJournal(f)
						if kept == "replay" {
							forgetsFirst(f, n) // and what is kept is decoded, and sent again
						}
						w := test.world(t, f, grpc.WithDefaultCallOptions(chosen...))
						s := w.mustOpen(append(test.opts, opt, stream.WithAtMostOnceSends())[:len(test.opts)+1]...)
						if kept == "replay" {
							converse(t, s, j, n)
							require.Equal(t, uint64(n), s.Stats().Replayed)
							return
						}
						require.NoError(t, s.CloseSend())
						got, err := receiveAll(s)
						require.ErrorIs(t, err, io.EOF)
						require.Equal(t, upTo(n), got)
					})
				})
			}
		}
	}
}

// What is kept can be read after the end, with the codec that it was sent with.
func TestUnackedHasTheCodecOfTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := dialled(t, &feed{handler: stays(), options: []grpc.ServerOption{grpc.ForceServerCodecV2(scrambling{"scrambled"})}},
			grpc.WithDefaultCallOptions(grpc.CallContentSubtype("scrambled")))
		s := w.mustDial(acking(), withReplay())
		mustSend(t, s, 1, 3)
		mustClose(t, s, "with messages that are not acknowledged")
		var left []uint64
		for seq, m := range s.Unacked() {
			require.NotNil(t, m)
			require.Equal(t, seq, frameOf(m).seq)
			left = append(left, seq)
		}
		require.Equal(t, upTo(3), left)
	})
}

// A content subtype that nobody has registered is an error of the options, and not plain proto.
func TestASubtypeWithoutACodec(t *testing.T) {
	t.Parallel()
	unknown := grpc.CallContentSubtype("unknown")
	for name, test := range map[string]struct {
		dial []grpc.DialOption
		opts []stream.ClientOption
	}{
		"default call option": {stream.DialOptions(insecureCredentials(), grpc.WithDefaultCallOptions(unknown)), nil},
		"call option":         {nil, []stream.ClientOption{stream.WithCallOptions(unknown)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &feed{handler: stays()}, test.dial...)
				_, err := w.dial(t.Context(), acking(), append(test.opts, withReplay())...)
				wantEnd(t, err, stream.ReasonOptions, codes.InvalidArgument, name)
				require.ErrorContains(t, err, "no codec is registered for the content subtype")
				require.Zero(t, handled(w))
			})
		})
	}
}

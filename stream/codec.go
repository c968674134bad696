package stream

import (
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// capture is a codec around a call's own. It lets an outbox keep the bytes of the message in hand, so that each
// message is encoded once, and notes the size of what is received.
type capture struct {
	encoding.CodecV2
	outbox keeper

	measures bool // set at construction, then read only: received is kept

	// The size of the newest message; written by Unmarshal, read by the goroutine that called RecvMsg. An interceptor may receive
	// ahead, in a goroutine of its own.
	received atomic.Int64
}

// keeper is the part of an outbox that a codec talks to.
type keeper interface {
	// Encoded returns the turn of the message in hand, zero where there has been none, and its bytes, with a reference for
	// the caller, where v is that message and they are known already.
	Encoded(v any) (data mem.BufferSlice, turn uint64)
	// Keep keeps the bytes of v, where it is still the message in hand in that turn. It takes data over and returns what
	// to send in its place.
	Keep(v any, turn uint64, data mem.BufferSlice) mem.BufferSlice
}

// Marshal encodes v, unless the outbox has its bytes, and lets the outbox keep them.
func (c *capture) Marshal(v any) (mem.BufferSlice, error) {
	known, turn := c.outbox.Encoded(v)
	if known != nil {
		return known, nil
	}
	data, err := c.CodecV2.Marshal(v)
	if err != nil {
		return nil, err
	}
	if turn > 0 {
		data = c.outbox.Keep(v, turn, data)
	}
	return data, nil
}

// Unmarshal decodes data and notes its size.
func (c *capture) Unmarshal(data mem.BufferSlice, v any) error {
	if c.measures {
		c.received.Store(int64(data.Len()))
	}
	return c.CodecV2.Unmarshal(data, v)
}

// callCodec is the codec of a stream's calls. With DialOptions it is known only when an attempt is opened. It may be used from
// any goroutine.
type callCodec struct {
	codec atomic.Pointer[encoding.CodecV2]
}

// newCallCodec returns the codec of calls with these options.
func newCallCodec(opts []grpc.CallOption) *callCodec {
	k := new(callCodec)
	if c := codecOf(opts); c != nil {
		k.use(c)
	}
	return k
}

// use makes c the codec.
func (k *callCodec) use(c encoding.CodecV2) { k.codec.Store(&c) }

// current returns the codec, nil if none is known.
func (k *callCodec) current() encoding.CodecV2 { //nolint:ireturn // codecs are grpc's plug-ins
	if c := k.codec.Load(); c != nil {
		return *c
	}
	return nil
}

// Marshal encodes v.
func (k *callCodec) Marshal(v any) (mem.BufferSlice, error) { return k.current().Marshal(v) }

// Unmarshal decodes data.
func (k *callCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return k.current().Unmarshal(data, v)
}

// protoName is the content subtype of a call without one.
const protoName = proto.Name

// codecOf returns the codec that a call with these options uses, as grpc-go chooses it: the last option that forces
// one, else the one registered for the content subtype, else proto. It returns nil where there is none.
func codecOf(opts []grpc.CallOption) encoding.CodecV2 { //nolint:ireturn // codecs are grpc's plug-ins
	var forced encoding.CodecV2
	subtype := proto.Name
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.ForceCodecV2CallOption:
			forced = o.CodecV2
		case grpc.ForceCodecCallOption:
			forced = codecV1{Codec: o.Codec}
		case grpc.CustomCodecCallOption:
			forced = codecV1{Codec: namedCodec{Codec: o.Codec}}
		case grpc.ContentSubtypeCallOption:
			subtype = o.ContentSubtype
		}
	}
	if forced != nil {
		return forced
	}
	if subtype == "" {
		subtype = proto.Name
	}
	if c := encoding.GetCodecV2(subtype); c != nil {
		return c
	}
	if c := encoding.GetCodec(subtype); c != nil {
		return codecV1{Codec: c}
	}
	return nil
}

// codecV1 makes a CodecV2 of an older codec.
type codecV1 struct{ encoding.Codec }

// Marshal encodes v.
func (c codecV1) Marshal(v any) (mem.BufferSlice, error) {
	data, err := c.Codec.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

// Unmarshal decodes data.
func (c codecV1) Unmarshal(data mem.BufferSlice, v any) error {
	return c.Codec.Unmarshal(data.Materialize(), v)
}

// namedCodec makes an encoding.Codec of grpc's oldest kind of codec, whose name does not show on the wire.
type namedCodec struct {
	grpc.Codec
}

// Name is empty: grpc names only the newer kinds in the content type.
func (namedCodec) Name() string { return "" }

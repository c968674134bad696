package stream_test

import (
	"errors"

	"google.golang.org/grpc/mem"
)

// rawMessage is a message of its own codec: bytes.
type rawMessage struct{ data []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*rawMessage)
	if !ok {
		return nil, errors.New("no raw message")
	}
	return mem.BufferSlice{mem.SliceBuffer(append([]byte(nil), r.data...))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*rawMessage)
	if !ok {
		return errors.New("no raw message")
	}
	r.data = data.Materialize()
	return nil
}

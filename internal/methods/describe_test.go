package methods_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/streamsafe/streamsafe/internal/methods"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	m, ok := methods.Describe(testpb.TestService_StreamingInputCall_FullMethodName)
	assert.True(t, ok)
	assert.Equal(t, methods.Method{
		Request: "grpc.testing.StreamingInputCallRequest", Response: "grpc.testing.StreamingInputCallResponse", ClientStreams: true,
	}, m)
	m, ok = methods.Describe("grpc.testing.TestService/FullDuplexCall")
	assert.True(t, ok)
	assert.True(t, m.ClientStreams && m.ServerStreams)
	for _, unknown := range []string{
		"", "*", "/", "/not.linked.In/Method", "/grpc.testing.TestService/*", "/grpc.testing.TestService/Nothing", "/grpc.testing.Empty/M",
	} {
		_, ok = methods.Describe(unknown)
		assert.False(t, ok, unknown)
	}
}

// oldMessage is one of the first API of protobuf's.
type oldMessage struct{}

func (*oldMessage) Reset()         {}
func (*oldMessage) String() string { return "" }
func (*oldMessage) ProtoMessage()  {}

func TestCanBe(t *testing.T) {
	t.Parallel()
	const name = "grpc.testing.Empty"
	for _, protoOnly := range []bool{false, true} {
		assert.True(t, methods.CanBe(new(testpb.Empty), name, protoOnly))
		assert.False(t, methods.CanBe(new(testpb.SimpleRequest), name, protoOnly))
		assert.True(t, methods.CanBe(new(dynamicpb.Message), name, protoOnly), "a message that may be any")
		assert.True(t, methods.CanBe(new(oldMessage), name, protoOnly), "a message whose name is not known")
		assert.Equal(t, !protoOnly, methods.CanBe(new(string), name, protoOnly), "no message")
	}
}

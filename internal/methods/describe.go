package methods

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Method is what generated code says of a method.
type Method struct {
	Request, Response            protoreflect.FullName
	ClientStreams, ServerStreams bool
}

// Describe returns what generated code says of a full method name. It reports false if that code is not linked in.
func Describe(fullMethod string) (m Method, ok bool) {
	service, name := Split(fullMethod)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	known, isService := found.(protoreflect.ServiceDescriptor)
	if err != nil || !isService {
		return Method{}, false
	}
	d := known.Methods().ByName(protoreflect.Name(name))
	if d == nil {
		return Method{}, false
	}
	return Method{
		Request: d.Input().FullName(), Response: d.Output().FullName(),
		ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer(),
	}, true
}

// CanBe reports whether message may be one with this name. If it is no message of protobuf's, that depends on the codec:
// protoOnly says that the codec takes none but those.
func CanBe(message any, name protoreflect.FullName, protoOnly bool) bool {
	m, ok := message.(proto.Message)
	if !ok {
		_, old := message.(protoadapt.MessageV1)
		return old || !protoOnly
	}
	d := m.ProtoReflect().Descriptor()
	return d == nil || d.FullName() == name // dynamicpb has none before it is set
}

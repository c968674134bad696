package unary

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// newReply returns an empty reply of the type of one; nil if that is no pointer.
func newReply(like any) any {
	if m, ok := like.(proto.Message); ok {
		return m.ProtoReflect().New().Interface()
	}
	t := reflect.TypeOf(like)
	if t == nil || t.Kind() != reflect.Pointer {
		return nil
	}
	return reflect.New(t.Elem()).Interface()
}

// copyReply makes the caller's reply equal to what the policies came to, and independent of it: a fallback's or a
// cache's message is handed to many callers. Replies that are no protobuf messages are copied as Go values.
func copyReply(to, from any) error {
	if from == nil {
		return errors.New("the policies returned neither a reply nor an error")
	}
	if same(to, from) {
		return nil
	}
	destination, source := reflect.ValueOf(to), reflect.ValueOf(from)
	if destination.Type() != source.Type() {
		return fmt.Errorf("the policies returned a reply of type %T, and the method's is %T", from, to)
	}
	if source.Kind() != reflect.Pointer || source.IsNil() {
		return fmt.Errorf("the policies returned a nil %T", from)
	}
	if m, ok := message(to); ok {
		other, _ := message(from)
		proto.Reset(m)
		proto.Merge(m, other)
		return nil
	}
	destination.Elem().Set(source.Elem())
	return nil
}

// message returns a reply as a protobuf message, even if its generated code is of the first generation.
func message(reply any) (proto.Message, bool) { //nolint:ireturn // protobuf's own interface
	switch m := reply.(type) {
	case proto.Message:
		return m, true
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(m), true
	default:
		return nil, false
	}
}

// same reports whether two replies are one.
func same(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.IsValid() && y.IsValid() && x.Type() == y.Type() && x.Kind() == reflect.Pointer && x.Pointer() == y.Pointer()
}

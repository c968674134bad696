package stream

import (
	"reflect"

	"google.golang.org/protobuf/proto"
)

// sizeOf returns about how many bytes m is: the encoded size of a protobuf message, and otherwise what its strings, slices and
// maps hold. It is asked only for messages that wait because the application does not receive; the codec may not be able to
// encode what it decodes.
func sizeOf(m any) int {
	if m, ok := m.(proto.Message); ok {
		return proto.Size(m)
	}
	s := sizer{values: maxSizedValues}
	s.add(reflect.ValueOf(m))
	return s.bytes
}

// maxSizedValues is how many values of a message are looked into. What more of them hold does not count.
const maxSizedValues = 1 << 14

// sizer adds up what values hold.
type sizer struct{ bytes, values int }

func (s *sizer) add(v reflect.Value) { //nolint:gocyclo // a case for each kind of value
	if !v.IsValid() {
		return
	}
	s.values--
	switch v.Kind() { //nolint:exhaustive // the others hold nothing but themselves
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			s.add(v.Elem())
		}
	case reflect.String:
		s.bytes += v.Len()
	case reflect.Slice, reflect.Array:
		s.bytes += v.Len() * int(v.Type().Elem().Size())
		for i := 0; i < v.Len() && s.values > 0 && holdsMore(v.Type().Elem()); i++ {
			s.add(v.Index(i))
		}
	case reflect.Map:
		s.bytes += v.Len() * int(v.Type().Key().Size()+v.Type().Elem().Size())
		for entries := v.MapRange(); s.values > 0 && entries.Next(); {
			s.add(entries.Key())
			s.add(entries.Value())
		}
	case reflect.Struct:
		s.bytes += int(v.Type().Size())
		for i := 0; i < v.NumField() && s.values > 0; i++ {
			if holdsMore(v.Type().Field(i).Type) {
				s.add(v.Field(i))
			}
		}
	}
}

// holdsMore reports whether a value of type t may hold more than itself.
func holdsMore(t reflect.Type) bool {
	switch t.Kind() { //nolint:exhaustive // the others hold nothing but themselves
	case reflect.Pointer, reflect.Interface, reflect.String, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		return true
	default:
		return false
	}
}

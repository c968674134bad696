package unary

import (
	"context"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/streamsafe/streamsafe/internal/methods"
)

// settings is what applies to one call.
type settings struct {
	base, own *options // own is nil if the call has no options of this package
	chain     *chain   // nil if there are no policies
	observers *observers
}

// settingsFor resolves the options of an interceptor and those of a call.
func settingsFor(ctx context.Context, base, own *options, method string) (settings, error) {
	if len(base.errs) > 0 {
		return settings{}, base.err()
	}
	base.firstUse()
	s := settings{base: base, own: own, chain: base.plan(ctx, method), observers: &base.observers}
	var of *chain // the call's own
	keys := base.keys
	if own != nil {
		of = own.plan(ctx, method)
		if own.keys != nil {
			keys = own.keys
		}
	}
	if of != nil {
		s.chain = of
	} else if keys != nil {
		var err error
		if s.chain, err = keys.chain(ctx, method, s.chain); err != nil {
			return s, err
		}
	}
	if own == nil {
		return s, nil
	}
	if !own.observers.empty() {
		s.observers = base.observers.with(&own.observers)
	}
	return s, own.err()
}

// executor returns the executor that the call runs under; nil if it runs under none.
func (s *settings) executor() failsafe.Executor[any] {
	if s.chain == nil {
		return nil
	}
	return s.chain.executor
}

// maxHint returns the longest time that a server may make a retry wait.
func (s *settings) maxHint() time.Duration {
	for _, o := range []*options{s.own, s.base} {
		if o != nil && o.maxHint != nil {
			return *o.maxHint
		}
	}
	return defaultMaxHint
}

// priority reports whether priorities are passed on.
func (s *settings) priority() bool { return s.base.priority || s.own != nil && s.own.priority }

// plain reports that there is nothing to do but the call.
func (s *settings) plain() bool {
	return (s.chain == nil || s.chain.empty()) && s.observers.empty()
}

// isIdempotent reports whether a method may be called twice: by option, or by its descriptor.
func (s *settings) isIdempotent(method string) bool {
	return s.base.idempotent.Has(method) || s.own != nil && s.own.idempotent.Has(method) || describedIdempotent(method)
}

// describedIdempotent reports whether the registered descriptor of a method has an idempotency_level that allows calling
// it twice.
func describedIdempotent(fullMethod string) bool {
	service, name := methods.Split(fullMethod)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return false
	}
	described, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return false
	}
	method := described.Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return false
	}
	declared, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && declared.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

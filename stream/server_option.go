package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serverOptions is what the options of one server come to.
type serverOptions struct {
	observers []Observer
	idle      time.Duration
	age       maxAge
	send      time.Duration

	authorized func(context.Context) (time.Time, bool)
	owner      func(context.Context) string
	unfenced   bool
	takeover   time.Duration
	drainer    *Drainer
	counters   *ServerCounters

	policies      []failsafe.Policy[any]
	policiesGiven bool
	around        serverPolicies // made of policies

	sends, recvs *policyChain
	messages     serverMessages // made of sends and recvs
}

// WithAuthorizationUntil ends a stream with UNAUTHENTICATED when its authorization ends, also if the stream is silent. f is
// called once for each stream, before the handler, with the context of the stream. It returns when the authorization ends,
// and false if it has no end. If it has ended already, the handler is not called. Clients of this package come again with
// new credentials, once in a row. Default, and nil: no end.
func WithAuthorizationUntil(f func(ctx context.Context) (until time.Time, ends bool)) ServerOption {
	return serverOption(func(o *serverOptions) { o.authorized = f })
}

// Validate returns what is wrong with the options of a [ServerInterceptor], which cannot return an error. Call it when the
// server starts. With wrong options, the interceptor refuses each stream with INTERNAL, and says what is wrong.
func Validate(opts ...ServerOption) error {
	_, err := newServerOptions(opts)
	return err
}

func newServerOptions(opts []ServerOption) (o serverOptions, err error) {
	var errs []error
	for _, opt := range opts {
		if opt == nil {
			errs = append(errs, errors.New("an option is nil"))
			continue
		}
		opt.applyServer(&o)
	}
	errs = append(errs, o.validate()...)
	errs = append(errs, o.compilePolicies()...)
	errs = append(errs, o.compileMessages()...)
	if err := joined(errs); err != nil {
		return o, fmt.Errorf("stream: wrong server options: %w", err)
	}
	return o, nil
}

func (o *serverOptions) validate() (errs []error) {
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, observer := range o.observers {
		refuse(!observesServers(observer), "observer %T implements none of the observer interfaces for servers", observer)
	}
	o.age.validate(refuse)
	return errs
}

// isPlain reports whether the options ask for nothing.
func (o *serverOptions) isPlain() bool {
	return !o.endsEarly() && o.counters == nil && len(o.observers) == 0 && len(o.around.gates) == 0 && o.messages == (serverMessages{})
}

// counts reports whether messages are counted.
func (o *serverOptions) counts() bool {
	return o.counters != nil || slices.ContainsFunc(o.observers, needsCounts)
}

// endsEarly reports whether a handler may have to be ended before it returns.
func (o *serverOptions) endsEarly() bool {
	return o.idle > 0 || o.send > 0 || o.age.most > 0 || o.authorized != nil || o.drainer != nil || o.around.limit > 0
}

// refusesAll is the end of each stream of a server whose options are wrong.
func refusesAll(err error) error { return status.Error(codes.Internal, err.Error()) }

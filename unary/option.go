package unary

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"

	"github.com/streamsafe/streamsafe/internal/methods"
)

// Option configures an interceptor. Each option is also a [grpc.CallOption], for one call through a
// [ClientInterceptor]: what it says comes before what the interceptor was given.
type Option struct {
	grpc.EmptyCallOption
	apply func(*options)
}

// WithPolicies sets the policies of all methods that have none of their own, the outermost first, as failsafe.With has
// it. Given without a policy, it turns policies off, which is also the default. As a call option it replaces all
// policies for that call.
//
// One execution is one call. Retries and hedges are tries of it, and each has its own context, reply and targets for
// headers and trailers.
func WithPolicies(policies ...failsafe.Policy[any]) Option {
	return Option{apply: func(o *options) { o.all = o.chain(policies) }}
}

// WithExecutor is WithPolicies for an executor. A context of its own that is done cancels the calls, too; its deadline is one
// of the calls, and its values are theirs if the caller's context has none. Policies inside a hedge see a try that failed
// while another won as that one.
//
// The policies of an executor cannot be told apart, so WithPolicies does more, and costs less. Under an executor:
//
//   - the server does not learn the time limit of a timeout;
//   - denials are not reported by policy, and a policy around another that denied a retry sees the denial;
//   - a timeout around one try is not retried by NewRetryPolicyBuilder;
//   - only breakers of NewCircuitBreakerBuilder leave cancelled calls out;
//   - policies may go on to retry what is final (a server's pushback, a panic): they get the same failure again, without an
//     attempt;
//   - a panic of the policies' own predicates and listeners leaks what other policies hold;
//   - each try decodes into a reply of its own, which is then copied.
func WithExecutor(executor failsafe.Executor[any]) Option {
	return Option{apply: func(o *options) {
		if executor == nil {
			o.refuse(errors.New("the executor is nil"))
			return
		}
		o.all = &chain{executor: executor}
	}}
}

// WithMethodPolicies sets the policies of one method ("/pkg.Service/Method"), of a service ("/pkg.Service/*") or of all
// methods ("*"), in place of those of WithPolicies. The most specific pattern of a method counts, and no other. Given
// without a policy, it turns policies off for these methods.
func WithMethodPolicies(pattern string, policies ...failsafe.Policy[any]) Option {
	return Option{apply: func(o *options) {
		o.patterns = append(o.patterns, pattern)
		o.refuse(o.byMethod.Set(pattern, o.chain(policies)))
	}}
}

// WithPoliciesIf sets the policies of the calls that match says true of, in place of those of WithMethodPolicies and
// WithPolicies: of calls with certain metadata, say, or of methods that no pattern fits. Given several times, the first that
// matches counts, and no other. Given without a policy, it turns policies off for these calls.
//
// Match gets the call's context and the full method name, in the goroutine of the call, and must not block.
func WithPoliciesIf(match func(ctx context.Context, fullMethod string) bool, policies ...failsafe.Policy[any]) Option {
	return Option{apply: func(o *options) {
		if match == nil {
			o.refuse(errors.New("WithPoliciesIf needs a function that says which calls match, and has none"))
			return
		}
		o.selected = append(o.selected, selection{match, o.chain(policies)})
	}}
}

// WithIdempotent says that calling these methods twice does no harm, so that they may be retried after
// DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED, and hedged. The patterns are those of WithMethodPolicies. Methods whose
// descriptor has an idempotency_level are known without it, if the generated code is linked in.
func WithIdempotent(patterns ...string) Option {
	return Option{apply: func(o *options) {
		o.patterns = append(o.patterns, patterns...)
		o.refuse(o.idempotent.Add(patterns...))
	}}
}

// WithObserver adds an observer: see [Observer]. [Stats] is one.
func WithObserver(observer Observer) Option {
	return Option{apply: func(o *options) { o.refuse(o.observers.add(observer)) }}
}

// WithPriority passes priorities on from clients to servers, in the metadata of failsafe-go (x-failsafe-level and
// x-failsafe-priority), where prioritized limiters and throttlers find them in the context. Default: off, since it lets
// clients choose their own priority.
//
// A client sends the level of its context, or else the priority. A server puts what came into the handler's context: a
// level, or a priority and a level drawn once from it. It refuses a value that is no number, out of range or given
// twice with INVALID_ARGUMENT.
func WithPriority() Option {
	return Option{apply: func(o *options) { o.priority = true }}
}

// defaultMaxHint is the default of WithMaxHint.
const defaultMaxHint = 5 * time.Second

// WithMaxHint sets the longest time that a server may make a retry wait, by google.rpc.RetryInfo or grpc-retry-pushback-ms.
// A failure that asks for more is not retried: the call ends with it at once. Default: 5 seconds. With zero or less, a
// failure that asks for any time is not retried.
//
// What the server asks for is never waited for beyond the deadline of the caller or of a timeout around the retry policy,
// nor beyond the policy's WithMaxDuration.
func WithMaxHint(d time.Duration) Option {
	d = max(d, 0)
	return Option{apply: func(o *options) { o.maxHint = &d }}
}

// Validate reports what is wrong with options: a pattern that is none, a nil policy, an observer that observes nothing.
// Interceptors cannot return an error, so one with such options fails every call with INTERNAL.
//
// It also reports patterns that are probably misspelt: a method that its service does not have, a service whose name is
// nearly that of another. It knows the services whose generated code is linked in, and says nothing of others. An
// interceptor ignores such a pattern, and warns of it when it is first used: see [WarningObserver].
func Validate(opts ...Option) error {
	o := newOptions(opts)
	for _, p := range o.patterns {
		o.refuse(methods.Misspelt(p))
	}
	return o.err()
}

// selection is the policies of the calls that a function selects.
type selection struct {
	match func(context.Context, string) bool
	chain *chain
}

// options is what the options of one interceptor, or of one call, come to. It is read only once it is filled.
type options struct {
	all        *chain // nil if not given
	selected   []selection
	byMethod   methods.Map[*chain]
	idempotent methods.Set
	observers  observers
	priority   bool
	maxHint    *time.Duration // nil if not given
	keys       *keyTable      // nil if not given
	patterns   []string
	errs       []error
	warn       sync.Once // for the first call
}

func newOptions(opts []Option) *options {
	o := &options{}
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(o)
		}
	}
	return o
}

// callOptions returns what is for this package among the options of a call; nil if nothing is.
func callOptions(opts []grpc.CallOption) *options {
	var own *options
	for _, opt := range opts {
		if mine, ok := opt.(Option); ok && mine.apply != nil {
			if own == nil {
				own = &options{}
			}
			mine.apply(own)
		}
	}
	return own
}

func (o *options) refuse(err error) {
	if err != nil {
		o.errs = append(o.errs, err)
	}
}

func (o *options) err() error {
	if len(o.errs) == 0 {
		return nil
	}
	return fmt.Errorf("unary: options: %w", errors.Join(o.errs...))
}

// chain returns the chain of policies.
func (o *options) chain(policies []failsafe.Policy[any]) *chain {
	c, err := newChain(policies)
	o.refuse(err)
	return c
}

// plan returns the policies of a call; nil if there are none.
func (o *options) plan(ctx context.Context, method string) *chain {
	for _, s := range o.selected {
		if s.match(ctx, method) {
			return s.chain
		}
	}
	c, ok := o.byMethod.Get(method)
	if !ok {
		c = o.all
	}
	return c
}

// firstUse warns of what Validate would have reported, and the interceptor ignores.
func (o *options) firstUse() {
	if len(o.patterns) == 0 {
		return
	}
	o.warn.Do(func() {
		for _, p := range o.patterns {
			if err := methods.Misspelt(p); err != nil {
				grpclog.Component("streamsafe").Warning("unary: ", err)
				o.observers.onWarning("unary: " + err.Error())
			}
		}
	})
}

package tap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go"
	grpctap "google.golang.org/grpc/tap"

	"github.com/streamsafe/streamsafe/internal/methods"
)

// Option configures [ServerInHandle] and [NewAccountant].
type Option struct{ apply func(*options) }

// options is what the options of one handle come to.
type options struct {
	server    []failsafe.Policy[any]
	methods   []methodRule
	keys      []keyRule
	levels    levelReader
	delay     time.Duration
	observers []Observer
	counters  *Counters
	fault     func(error) bool
}

// methodRule is what one option says about the methods of a pattern.
type methodRule struct {
	pattern  string
	policies []failsafe.Policy[any]
	exempt   bool
}

// keyRule is what one WithKey says.
type keyRule struct {
	key      func(context.Context, *grpctap.Info) string
	policies func(key string) []failsafe.Policy[any]
	limit    int
}

// WithPolicies sets policies that every RPC of the server has to pass, the outermost first. Given twice, all apply.
// Default: none.
//
// A policy is asked for a permit without waiting, whatever its longest wait is. A rate limiter's permit is spent even
// if a later policy refuses: put rate limiters last. Those of WithKey and WithMethodPolicies are asked before, so
// theirs are spent even if these policies refuse. These policies have a place in a tap:
//
//   - rate limiters;
//   - circuit breakers and adaptive throttlers, also prioritized ones. A [ServerInHandle] only asks them: somebody else
//     (an interceptor, say) tells them how RPCs end. An [Accountant] tells them itself;
//   - bulkheads and adaptive limiters, also prioritized ones, with an [Accountant] only: their permits are held until
//     the RPC has ended.
//
// Prioritized policies rank an RPC by the level, or else the priority, that an earlier handle of a [Chain] has put into
// its context. See also [WithPriority]. An RPC without either has the lowest level.
func WithPolicies(policies ...failsafe.Policy[any]) Option {
	return Option{func(o *options) { o.server = append(o.server, policies...) }}
}

// WithMethodPolicies sets policies for the methods of a pattern: "/pkg.Service/Method", "/pkg.Service/*" or "*". The
// methods of a pattern share the policies. If several patterns fit a method the most specific one wins, and of two
// options with one pattern the later. They are asked before those of [WithPolicies]. Default: none.
func WithMethodPolicies(pattern string, policies ...failsafe.Policy[any]) Option {
	return Option{func(o *options) { o.methods = append(o.methods, methodRule{pattern: pattern, policies: policies}) }}
}

// Exempt lets the methods of the patterns pass without asking any policy. A more specific pattern of
// [WithMethodPolicies] takes a method out of the exemption. Default: the services of health checking and of reflection.
func Exempt(patterns ...string) Option {
	return Option{func(o *options) {
		for _, p := range patterns {
			o.methods = append(o.methods, methodRule{pattern: p, exempt: true})
		}
	}}
}

// WithKey gives each key policies of its own: each tenant, each method. key tells the key of an RPC, as [ByMetadata],
// [ByMethod] and [ByPeer] do; policies makes the policies of a key, once for each, and once for [OverflowKey] at
// construction. Neither may block. Both may be called by several goroutines at a time. They are asked before all other
// policies, so that a tenant that floods the server spends nothing of the others'. Given twice, both apply.
//
// At most maxKeys keys are kept; zero is 1,024, and less than zero a mistake. A key beyond that takes the place of the
// one that was not used for longest, if that was at least a minute ago and none of its RPCs is still running. Otherwise it
// shares the policies of OverflowKey with all others like it, and so does a key longer than 256 bytes: whoever makes up
// keys gets no new limit with each, and takes none from those who have one.
func WithKey(
	key func(context.Context, *grpctap.Info) string, policies func(key string) []failsafe.Policy[any], maxKeys int,
) Option {
	return Option{func(o *options) { o.keys = append(o.keys, keyRule{key, policies, maxKeys}) }}
}

// WithPriority makes prioritized policies rank an RPC by its metadata if the context says nothing: x-failsafe-level and
// x-failsafe-priority, as failsafe-go's clients send them. They refuse a value that is no number, out of range or given
// twice with INVALID_ARGUMENT. Default: off, since it lets clients choose their own priority.
func WithPriority() Option {
	return Option{func(o *options) { o.levels = levelOfMetadata }}
}

// WithRetryDelay sets what a refusal tells clients to wait (google.rpc.RetryInfo) if the policy does not know: all
// policies but an open circuit breaker. Zero, the default, or less: nothing, and clients see no hint.
func WithRetryDelay(d time.Duration) Option {
	return Option{func(o *options) { o.delay = d }}
}

// WithServerFault sets which errors of RPCs are the server's fault. The breakers and throttlers of an [Accountant] see only
// these as errors, and their own conditions may still let them pass. RPCs that the client cancels do not count, and all
// others are successes. The errors carry a status. Default, and nil: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and
// DATA_LOSS.
func WithServerFault(fault func(error) bool) Option {
	return Option{func(o *options) { o.fault = fault }}
}

// WithCounters makes a handle count in c. Handles may share it. Default: an [Accountant] has its own; a
// [ServerInHandle] counts nothing.
func WithCounters(c *Counters) Option {
	return Option{func(o *options) { o.counters = c }}
}

// WithObserver adds an observer. Given twice, both are told. Default: none.
func WithObserver(o Observer) Option {
	return Option{func(opts *options) { opts.observers = append(opts.observers, apart(o)...) }}
}

// Validate tells what is wrong with the options of a [ServerInHandle], which cannot return an error itself. A handle
// made with wrong options refuses every RPC that is not exempt with INTERNAL, and the same message.
//
// It also reports patterns that are probably misspelt: a method that its service does not have, a service whose name is
// nearly that of another. It knows the services whose generated code is linked in, and says nothing of others. A handle
// ignores such a pattern.
func Validate(opts ...Option) error {
	_, err := newRules(opts, false)
	return errors.Join(err, misspelt(opts))
}

// misspelt returns what is wrong with patterns that are well formed.
func misspelt(opts []Option) error {
	o, _ := optionsOf(opts)
	var errs []error
	for _, m := range o.methods {
		if err := methods.Misspelt(m.pattern); err != nil {
			errs = append(errs, fmt.Errorf("tap: %w", err))
		}
	}
	return errors.Join(errs...)
}

func optionsOf(opts []Option) (options, error) {
	o := options{levels: levelOfContext}
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(&o)
		}
	}
	if o.fault == nil {
		o.fault = isServerFault
	}
	var errs []error
	for _, observer := range o.observers {
		if !observes(observer) {
			errs = append(errs, fmt.Errorf("observer %T implements none of the observer interfaces", observer))
		}
	}
	for _, k := range o.keys {
		if k.key == nil || k.policies == nil || k.limit < 0 {
			errs = append(errs, fmt.Errorf("WithKey needs a key, policies and at least one key, not %d", k.limit))
		}
	}
	return o, errors.Join(errs...)
}

package bench

import (
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"

	"github.com/streamsafe/streamsafe/stream"
)

// Host is a kind of server.
type Host string

// The kinds of servers.
const (
	HostBare     Host = "bare"     // without an interceptor
	HostPlain    Host = "plain"    // stream.ServerInterceptor without options
	HostCounted  Host = "counted"  // counters
	HostLimits   Host = "limits"   // an idle timeout, a send timeout and a drainer: handlers run in goroutines of their own
	HostPolicies Host = "policies" // a rate limiter and a circuit breaker around the handler, and limits
	HostMessages Host = "messages" // a circuit breaker and a rate limiter on each message, both ways
)

// Hosts returns the kinds of servers, HostBare first.
func Hosts() []Host {
	return []Host{HostBare, HostPlain, HostCounted, HostLimits, HostPolicies, HostMessages}
}

// serverOptions returns the options of a kind of server.
func serverOptions(h Host) []stream.ServerOption {
	limits := []stream.ServerOption{
		stream.WithIdleTimeout(time.Minute), stream.WithSendTimeout(time.Minute), stream.WithDrainer(stream.NewDrainer()),
	}
	switch h {
	case HostCounted:
		return []stream.ServerOption{stream.WithServerCounters(new(stream.ServerCounters))}
	case HostLimits:
		return limits
	case HostPolicies:
		return append(limits, stream.WithServerPolicies(
			ratelimiter.NewBursty[any](1<<30, time.Second), circuitbreaker.NewWithDefaults[any]()))
	case HostMessages:
		return []stream.ServerOption{stream.WithSendPolicies(policies()...), stream.WithRecvPolicies(policies()...)}
	case HostBare, HostPlain:
	}
	return nil
}

// Package policykind tells the policies of failsafe-go apart.
//
// failsafe-go gives most of its policies no interface of their own, so they are known by the package that made them.
package policykind

import (
	"reflect"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
)

// Kind is the package of failsafe-go that made a policy.
type Kind string

// The kinds this module treats apart from others.
const (
	AdaptiveLimiter   Kind = "adaptivelimiter"
	AdaptiveThrottler Kind = "adaptivethrottler"
	Bulkhead          Kind = "bulkhead"
	Cache             Kind = "cachepolicy"
	CircuitBreaker    Kind = "circuitbreaker"
	Fallback          Kind = "fallback"
	Hedge             Kind = "hedgepolicy"
	RateLimiter       Kind = "ratelimiter"
	Retry             Kind = "retrypolicy"
	Timeout           Kind = "timeout"
	Other             Kind = "" // a policy that failsafe-go did not make
)

const modulePath = "github.com/failsafe-go/failsafe-go/"

// Of returns the kind of p.
func Of(p failsafe.Policy[any]) Kind {
	t := reflect.TypeOf(p)
	if t == nil {
		return Other
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, ok := strings.CutPrefix(t.PkgPath(), modulePath)
	if !ok {
		return Other
	}
	return Kind(name)
}

// failsafe-go does not say how a policy was configured. The functions below read its fields. If a later version names them
// in another way, they report that they do not know, and a test of this package fails.

// TimeLimit returns the time limit of a timeout, and whether the timeout has a listener. It is not ok if p is no timeout of
// failsafe-go, or one whose fields have other names.
func TimeLimit(p failsafe.Policy[any]) (limit time.Duration, listened, ok bool) {
	limit, ok = duration(p, Timeout, "timeLimit")
	if !ok {
		return 0, false, false
	}
	listener := reflect.ValueOf(p).Elem().FieldByName("onTimeoutExceeded")
	if listener.Kind() != reflect.Func {
		return 0, false, false
	}
	return limit, !listener.IsNil(), true
}

// MaxDuration returns the longest time that a retry policy tries for. Zero means that there is no limit, or that it is not
// known.
func MaxDuration(p failsafe.Policy[any]) time.Duration {
	d, _ := duration(p, Retry, "maxDuration")
	return d
}

// MaxWait returns how long a rate limiter, a bulkhead or an adaptive limiter was built to wait for a permit under an executor.
// Less than zero means that there is no limit. It is not ok if p is none of these, or one whose fields have other names.
func MaxWait(p failsafe.Policy[any]) (most time.Duration, ok bool) {
	switch kind := Of(p); kind {
	case RateLimiter, Bulkhead, AdaptiveLimiter:
		return duration(p, kind, "maxWaitTime")
	case AdaptiveThrottler, Cache, CircuitBreaker, Fallback, Hedge, Retry, Timeout, Other:
		return 0, false
	default:
		return 0, false
	}
}

func duration(p failsafe.Policy[any], kind Kind, name string) (time.Duration, bool) {
	v := reflect.ValueOf(p)
	if Of(p) != kind || v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return 0, false
	}
	field := v.Elem().FieldByName(name)
	if field.Kind() != reflect.Int64 {
		return 0, false
	}
	return time.Duration(field.Int()), true
}

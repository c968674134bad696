// Package policykind tells the policies of failsafe-go apart.
//
// failsafe-go gives most of its policies no interface of their own, so they are known by the package that made them.
package policykind

import (
	"reflect"
	"strings"

	"github.com/failsafe-go/failsafe-go"
)

// Kind is the package of failsafe-go that made a policy.
type Kind string

// The kinds this module treats apart from others.
const (
	AdaptiveLimiter Kind = "adaptivelimiter"
	Bulkhead        Kind = "bulkhead"
	Cache           Kind = "cachepolicy"
	CircuitBreaker  Kind = "circuitbreaker"
	Hedge           Kind = "hedgepolicy"
	Retry           Kind = "retrypolicy"
	Other           Kind = "" // a policy that failsafe-go did not make
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

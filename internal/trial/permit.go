// Package trial makes circuit breakers take a trial back: a call of a half-open breaker that was cancelled, or that never
// ran, is neither success nor failure (invariant 37).
//
// failsafe-go's breakers take back a permit only together with a verdict. So a permit without a verdict is kept here, and
// the next call of the breaker uses it.
package trial

import (
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// maxKept bounds the breakers whose permits are kept.
const maxKept = 1024

// keeper has the permits that were given back.
type keeper struct {
	breakers atomic.Int32 // how many there are; written with mu held

	mu      sync.Mutex // guards the field below
	permits map[circuitbreaker.CircuitBreaker[any]]int
}

// kept belongs to the process: a breaker may be shared by interceptors, servers and taps, and each of them has to find the
// permits that another has given back. An entry goes when its permits are used, or its breaker is half-open no more.
var kept keeper //nolint:gochecknoglobals // see above: a breaker has no place for it

// Acquire takes a permit of b, if there is one. Half-open says that it has to be given back, by a verdict or by [Return].
func Acquire(b circuitbreaker.CircuitBreaker[any]) (halfOpen, ok bool) {
	b = Bare(b)
	if b.IsClosed() { // and has a permit for everybody
		return false, true
	}
	if kept.take(b) {
		return true, true
	}
	if !b.TryAcquirePermit() {
		return false, false
	}
	return !b.IsClosed(), true // it may have closed meanwhile
}

// Return gives back a permit of a half-open breaker without a verdict.
func Return(b circuitbreaker.CircuitBreaker[any]) {
	b = Bare(b)
	if b.IsHalfOpen() && !kept.put(b) {
		b.Open() // the trial begins anew, after the breaker's delay: better than never
	}
}

// Bare returns the breaker that is in a [Breaker], and others as they are.
func Bare(b circuitbreaker.CircuitBreaker[any]) circuitbreaker.CircuitBreaker[any] {
	if mine, ok := b.(*Breaker); ok {
		return mine.CircuitBreaker
	}
	return b
}

func (k *keeper) take(b circuitbreaker.CircuitBreaker[any]) bool {
	if k.breakers.Load() == 0 || !reflect.TypeOf(b).Comparable() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.permits[b]
	if !ok {
		return false
	}
	halfOpen := b.IsHalfOpen() // or its permits went with the state
	if n--; n == 0 || !halfOpen {
		delete(k.permits, b)
		k.breakers.Store(int32(len(k.permits)))
	} else {
		k.permits[b] = n
	}
	return halfOpen
}

// put keeps a permit. It is false if there is no room.
func (k *keeper) put(b circuitbreaker.CircuitBreaker[any]) bool {
	if !reflect.TypeOf(b).Comparable() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.permits[b]; !ok && len(k.permits) >= maxKept {
		k.sweepLocked()
		if len(k.permits) >= maxKept {
			return false
		}
	}
	if k.permits == nil {
		k.permits = make(map[circuitbreaker.CircuitBreaker[any]]int)
	}
	k.permits[b]++
	k.breakers.Store(int32(len(k.permits)))
	return true
}

// sweepLocked forgets breakers that are no longer half-open.
func (k *keeper) sweepLocked() {
	for b := range k.permits {
		if !b.IsHalfOpen() {
			delete(k.permits, b)
		}
	}
	k.breakers.Store(int32(len(k.permits)))
}

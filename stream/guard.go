package stream

import "errors"

// errGoroutineEnded is how a stream ends if what it calls panics, or calls runtime.Goexit, as t.FailNow does.
var errGoroutineEnded = errors.New("a callback has ended the goroutine")

// guarded calls code that is not this package's: a callback, a codec, an interceptor, an observer, a store. It may panic, and
// the application recover, or end the goroutine. If it does not return, gone is called, so that nobody waits for it.
func guarded(call, gone func()) {
	returned := false
	defer func() {
		if !returned {
			gone()
		}
	}()
	call()
	returned = true
}

// contained calls f in a goroutine of its own, and waits for it: one that f ends is not the caller's. If f panics, contained
// does.
func contained(f func()) {
	done := make(chan any)
	go func() { // ends with f
		defer func() { done <- recover() }()
		f()
	}()
	if p := <-done; p != nil {
		panic(p) //nolint:forbidigo // f's own
	}
}

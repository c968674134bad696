package unary

import "sync"

// flight is the attempts of a call that may overlap.
//
// Without it: 1. a hedge is begun, and its goroutine is not scheduled yet; 2. the first try wins and the call returns;
// 3. the hedge reads the request while the caller changes it.
type flight struct {
	like any // an empty reply; set at construction, then read only

	mu      sync.Mutex // guards the fields below
	running int
	closed  bool
	landed  chan struct{} // closed when none runs any more; nil if nobody waits
}

// takeOff counts an attempt. It is false if the call has ended: the attempt is not to be made.
func (f *flight) takeOff() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.running++
	return true
}

// land ends an attempt.
func (f *flight) land() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running--; f.running == 0 && f.landed != nil {
		close(f.landed)
	}
}

// close lets no attempt begin any more, and waits for those that run.
func (f *flight) close() {
	f.mu.Lock()
	f.closed = true
	if f.running == 0 {
		f.mu.Unlock()
		return
	}
	f.landed = make(chan struct{})
	landed := f.landed
	f.mu.Unlock()
	<-landed
}

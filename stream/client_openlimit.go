package stream

import (
	"sync"
	"time"
)

// The limit of an open if the application gives none, and the connection has no DialOptions: with grpc.WaitForReady(true) nothing
// would be told of an outage before that.
const defaultOpenLimit = 20 * time.Second

// noLimit is a limit that the application has switched off.
const noLimit time.Duration = -1

// linkTo prepares what the interceptor of DialOptions needs to open a.
func (s *ClientStream[Req, Res]) linkTo(a *attempt[Req, Res]) {
	a.link.again, a.link.codec, a.link.known = a.epoch > 1, a.codec, s.codec
	a.link.news = func(cause error) {
		s.lastErr.Store(&attemptError{cause: cause})
		s.events.publish(event{kind: eventWaiting, attempt: a.epoch, cause: cause})
	}
	a.link.named = s.method.is
	a.link.clock.start()
}

// limitOpen gives a up if it is not opened in time. Time in which the connection is not ready does not count: the attempt would
// be given up for what the next one has to wait for, too, and the stream's backoff would add to the connection's (invariant 36).
// The function that it returns ends that.
func (s *ClientStream[Req, Res]) limitOpen(a *attempt[Req, Res]) (stop func()) {
	limit := s.options.limits.open
	if limit == noLimit {
		return func() {}
	}
	o := &openLimit{link: &a.link, limit: limit}
	if limit == 0 {
		o.limit, o.byDefault = defaultOpenLimit, true
	}
	o.fail = func(dead bool) {
		a.fail(&loss{op: "open", err: &limitError{what: "not opened", limit: o.limit, dead: dead}, origin: fromStream})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timer = time.AfterFunc(o.limit, o.expire)
	return o.stop
}

// openLimit is the limit of one open.
type openLimit struct {
	// set at construction, then read only
	link      *link
	limit     time.Duration
	byDefault bool // it is for connections without DialOptions
	fail      func(dead bool)

	mu      sync.Mutex // guards the fields below
	timer   *time.Timer
	stopped bool
}

// stop ends the limit.
func (o *openLimit) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	o.timer.Stop()
}

// again waits once more, and reports false if the limit has ended.
func (o *openLimit) again(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stopped && d > 0 {
		o.timer.Reset(d)
	}
	return !o.stopped
}

// expire decides what a limit that may have passed means.
func (o *openLimit) expire() {
	if o.byDefault && o.link.isDialled() {
		return
	}
	ran, runs := o.link.clock.read()
	switch rest := o.limit - ran; {
	case rest > 0 && runs:
		o.again(rest)
		return
	case !runs || !o.link.isReady():
		o.again(roundUp(o.limit, ticksOfLimit) + max(0, rest))
		return
	}
	if !o.again(0) {
		return
	}
	r := o.link.route.Load()
	if r == nil || r.socket == nil || r.socket.Reads() != r.reads {
		o.fail(false)
		return
	}
	r.socket.Suspect(r.ctx, r.probe, probeLimit(o.limit), func(dead bool) {
		if o.again(0) {
			o.fail(dead)
		}
	})
}

package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/internal/backoff"
)

// ErrDrained is the cause if a server was drained.
var ErrDrained = errors.New("stream: the server is drained")

// Stopper is a server that a [Drainer] stops. *grpc.Server is one.
type Stopper interface {
	GracefulStop()
	Stop()
}

// Drainer moves the streams of a server to other servers without a storm, for a deploy. Make one, give it to
// [ServerInterceptor] with [WithDrainer], and call Drain when the process is told to stop.
//
// Drain does this, in this order:
//
//  1. Admission closes: what [DrainFirst] was given is called, such as a health server's Shutdown; new streams are refused with
//     UNAVAILABLE; GracefulStop of the servers sends GOAWAY, so that clients open the next streams elsewhere.
//  2. The handlers are told, one after the other, spread over the window: the channel of [Draining] is closed. A protocol that
//     can announce a close does so now, and clients of this package change over before the old stream ends: see [Rotate].
//  3. The handlers that have not returned some time later ([DrainGrace]) are ended, with UNAVAILABLE, a RetryInfo, and a
//     trailer by which clients of this package know a planned close.
//  4. Drain waits for the handlers that do not return in spite of that. grpc's own GracefulStop does not see them any more.
//
// Each stream that passes the interceptor counts, Health.Watch too. Its methods are safe for concurrent use.
type Drainer struct {
	window, grace, retry time.Duration // set at construction, then read only
	first                []func()      // set at construction, then read only

	mu      sync.Mutex // guards the fields below
	streams map[*ServerStream]struct{}
	drain   *drain // nil before Drain is called
}

// drain is what all calls of Drain have in common.
type drain struct {
	empty   chan struct{} // closed when no stream has a handler
	hurry   chan struct{} // closed when a caller has no more time
	hurried sync.Once
}

// DrainOption configures a [Drainer].
type DrainOption func(*Drainer)

// DrainWindow sets the time over which streams are told and ended. If the context of Drain ends before that, the window is
// what is left until its deadline. Default, and zero or less: 10 s.
func DrainWindow(d time.Duration) DrainOption {
	return func(dr *Drainer) {
		if d > 0 {
			dr.window = d
		}
	}
}

// DrainGrace sets how long a handler may go on after it was told. It is a part of the window, and at most half of it. Default:
// a quarter of the window. Zero or less: none.
func DrainGrace(d time.Duration) DrainOption { return func(dr *Drainer) { dr.grace = max(0, d) } }

// DrainRetryAfter sets how long clients are asked to wait before they come again. Default, and zero or less: 100 ms.
func DrainRetryAfter(d time.Duration) DrainOption {
	return func(dr *Drainer) {
		if d > 0 {
			dr.retry = d
		}
	}
}

// DrainFirst sets a function that Drain calls before anything else, such as the Shutdown of a health server. It may be given
// several times.
func DrainFirst(f func()) DrainOption {
	return func(dr *Drainer) { dr.first = append(dr.first, f) }
}

// NewDrainer returns a drainer. One may serve several interceptors and servers.
func NewDrainer(opts ...DrainOption) *Drainer {
	d := &Drainer{window: 10 * time.Second, grace: -1, retry: soon, streams: make(map[*ServerStream]struct{})}
	for _, opt := range opts {
		if opt != nil {
			opt(d)
		}
	}
	return d
}

// WithDrainer lets d tell and end the streams of a server. Default, and nil: none.
func WithDrainer(d *Drainer) ServerOption {
	return serverOption(func(o *serverOptions) { o.drainer = d })
}

// Draining returns a channel that is closed when a [Drainer] tells the handler that its stream will be ended. ctx is the context
// of a handler. Without a Drainer the channel is nil, and a receive from it blocks for ever.
func Draining(ctx context.Context) <-chan struct{} {
	if s, ok := ctx.Value(serverKey{}).(*ServerStream); ok {
		return s.draining
	}
	return nil
}

// Drain drains the servers, and returns when all handlers have returned and the servers have stopped. It calls GracefulStop of
// the servers, so the caller need not. Unary calls count for GracefulStop as ever. A grpc.Server behind ServeHTTP must not be
// among them, since its GracefulStop cuts all streams at once: let DrainFirst begin the Shutdown of the http.Server instead.
//
// If ctx is done before, all streams are ended at once, with RetryInfos that spread clients over the window, Stop of the
// servers is called, and Drain returns an error that says how many handlers have not returned. If Drain is called again, it
// waits for the streams like the first call.
func (d *Drainer) Drain(ctx context.Context, servers ...Stopper) error {
	began := time.Now()
	dr, mine := d.begin()
	for _, f := range d.first {
		if mine && f != nil {
			f()
		}
	}
	stopped := stopAll(servers)
	if mine {
		go d.pace(dr, d.until(ctx, began)) // ends with the window, when no stream is left, or when a caller is in a hurry
	}
	for _, over := range []<-chan struct{}{dr.empty, stopped} {
		select {
		case <-over:
		case <-ctx.Done():
			dr.hurried.Do(func() { close(dr.hurry) })
			for _, s := range servers {
				go s.Stop() // ends when grpc has closed the connections; it may wait for handlers, so nobody waits for it
			}
			return d.unfinished(ctx)
		}
	}
	return nil
}

// begin closes admission. mine says that this call is the first.
func (d *Drainer) begin() (dr *drain, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drain != nil {
		return d.drain, false
	}
	d.drain = &drain{empty: make(chan struct{}), hurry: make(chan struct{})}
	if len(d.streams) == 0 {
		close(d.drain.empty)
	}
	return d.drain, true
}

// stopAll stops the servers gracefully. The channel is closed when they have stopped.
func stopAll(servers []Stopper) <-chan struct{} {
	stopped := make(chan struct{})
	var stopping sync.WaitGroup
	for _, s := range servers {
		stopping.Go(s.GracefulStop) // ends when the server has stopped: Stop makes it
	}
	go func() { // ends with the others
		stopping.Wait()
		close(stopped)
	}()
	return stopped
}

// until returns the window of a drain that began then.
func (d *Drainer) until(ctx context.Context, began time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(d.window, max(0, deadline.Sub(began)*9/10)) // a tenth is for handlers to return
	}
	return d.window
}

// unfinished is the error of a drain whose time is over.
func (d *Drainer) unfinished(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Errorf("stream: drain: %d handlers of streams have not returned, or a server has not stopped: %w", len(d.streams), context.Cause(ctx))
}

// enter lets s in, or refuses it, if the drain has begun: nobody is in who is not told (invariant 41).
func (d *Drainer) enter(s *ServerStream) *EndedError {
	s.draining = make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drain != nil {
		return drainedEnd(EndRefused, d.retry)
	}
	d.streams[s] = struct{}{}
	return nil
}

// leave forgets s, whose handler has returned.
func (d *Drainer) leave(s *ServerStream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.streams[s]; !ok {
		return
	}
	delete(d.streams, s)
	if d.drain != nil && len(d.streams) == 0 {
		close(d.drain.empty)
	}
}

// drainSchedule says when the streams of a drain are told and ended: the first after lead, the others one step after the other, and
// each is ended after grace.
type drainSchedule struct{ lead, step, grace time.Duration }

// mostLead is how long a drain waits at most before it tells the first stream, so that clients have seen the GOAWAY.
const mostLead = 100 * time.Millisecond

func (d *Drainer) schedule(window time.Duration, streams int) drainSchedule {
	sc := drainSchedule{lead: min(mostLead, window/10), grace: min(d.grace, window/2)}
	if d.grace < 0 {
		sc.grace = window / 4
	}
	sc.step = (window - sc.lead - sc.grace) / time.Duration(max(1, streams))
	return sc
}

// tells returns when stream i is told, after the beginning of the drain.
func (sc drainSchedule) tells(i int) time.Duration { return sc.lead + time.Duration(i)*sc.step }

// ends returns when it is ended.
func (sc drainSchedule) ends(i int) time.Duration { return sc.tells(i) + sc.grace }

// pace tells and ends the streams over the window (invariant 42).
func (d *Drainer) pace(dr *drain, window time.Duration) {
	began, streams := time.Now(), d.all()
	sc := d.schedule(window, len(streams))
	timer := time.NewTimer(sc.lead)
	defer timer.Stop()
	for told, ended := 0, 0; ended < len(streams); {
		select {
		case <-timer.C:
		case <-dr.empty:
			return
		case <-dr.hurry:
			for _, s := range streams[told:] {
				close(s.draining)
			}
			for _, s := range streams[ended:] {
				s.end(drainedEnd(EndDrained, d.retry+backoff.UpTo(d.window)))
			}
			return
		}
		now := time.Since(began)
		for ; told < len(streams) && sc.tells(told) <= now; told++ {
			close(streams[told].draining)
		}
		for ; ended < told && sc.ends(ended) <= now; ended++ {
			streams[ended].end(drainedEnd(EndDrained, d.retry))
		}
		next := sc.ends(ended)
		if told < len(streams) {
			next = min(next, sc.tells(told))
		}
		timer.Reset(next - time.Since(began))
	}
}

// all returns the streams that there are.
func (d *Drainer) all() []*ServerStream {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.streams))
}

func drainedEnd(end End, retry time.Duration) *EndedError {
	return &EndedError{
		End: end, code: codes.Unavailable, retry: retry, trailer: endTold(EndDrained), cause: ErrDrained,
		text: "the server is drained (see Drainer)",
	}
}

package stream

import (
	"context"
	"sync/atomic"
	"time"
)

// StreamObserver is an observer that wants to know which streams there are. It is asked once for each stream of a client, before
// the first attempt, in the goroutine that opens the stream. What it returns observes that stream: an [Observer], or nil for
// nothing. ctx is the context of the stream: it has the values of the one that was given to Resilient, and is done when the stream
// has ended.
//
// If the observer that it returns implements [ClosedObserver], that is told of the end exactly once. Keep nothing of the stream
// after that.
//
// A StreamObserver that implements other Observer interfaces, too, is told of these events itself.
type StreamObserver interface { //nolint:revive // it is asked for each stream, beside AttemptObserver
	ObserveStream(ctx context.Context, s *Observed) Observer
}

// AttemptObserver is an observer that wants to put something into the context of each attempt, such as the span that spans of
// the call are to be children of. It is called before the attempt is opened, in the goroutine that opens it, so it has to
// return quickly. It returns ctx or a child of it. That context is done when the attempt is over.
//
// It is told of each attempt, also of those that lose a race of hedged opens. Such an attempt has no other event than that of
// [OpenedObserver].
type AttemptObserver interface {
	ObserveAttempt(ctx context.Context, info Info) context.Context
}

// Observed is a stream of a client, as a [StreamObserver] sees it. Its methods may be called at any time, from any goroutine. One
// that a test makes by itself has no stream behind it: its methods return zero values.
type Observed struct {
	// ID is the id of the stream. With WithResumeMetadata the server knows it, too. Otherwise it is random, and only observers know
	// it. Log its String, and not the whole.
	ID StreamID
	// Name is the name that WithName has given the stream.
	Name string
	// Began is when the stream was made.
	Began time.Time

	stream interface { // set at construction, then read only
		State() State
		peek() Stats
		methodName() string
	}
}

// State returns the state of the stream.
func (o *Observed) State() State {
	if o.stream == nil {
		return Opening
	}
	return o.stream.State()
}

// Stats returns a snapshot of the stream, as [ClientStream.Stats] does, but it does not make the stream note when messages
// arrive, since that costs time for each message. LastMessage is zero unless the application calls Stats itself.
func (o *Observed) Stats() Stats {
	if o.stream == nil {
		return Stats{}
	}
	return o.stream.peek()
}

// Method returns the full name of the method, such as /package.Service/Method. It is empty until it is known: at once for a
// stream of a [ClientInterceptor], from the first open on with [DialOptions], and otherwise never.
func (o *Observed) Method() string {
	if o.stream == nil {
		return ""
	}
	return o.stream.methodName()
}

// ServerStreamObserver is a [StreamObserver] for servers. It is asked when a stream was let in, before its handler is called. What
// it returns observes that stream only. See also [ServerOpenedObserver].
type ServerStreamObserver interface {
	ObserveServerStream(s *ServerObserved) Observer
}

// ServerObserved is a stream of a server, as a [ServerStreamObserver] sees it.
type ServerObserved struct {
	// Method is the full name of the method, such as /package.Service/Method.
	Method string
	// Attempt is what the client has told with WithResumeMetadata. Otherwise it is zero.
	Attempt Attempt
	// Began is when the stream was let in.
	Began time.Time

	stream *ServerStream // set at construction, then read only
}

// Messages returns how many messages were received and sent so far. It may be called at any time, from any goroutine.
func (o *ServerObserved) Messages() (received, sent uint64) {
	return o.stream.received.Load(), o.stream.sent.Load()
}

// EndedEarly returns why the stream was ended before its handler has returned, nil if it was not.
func (o *ServerObserved) EndedEarly() *EndedError { return o.stream.endedEarly() }

// methodKnown is the name of the method of a stream, once it is known.
type methodKnown struct{ name atomic.Pointer[string] }

func (m *methodKnown) is(name string) { m.name.CompareAndSwap(nil, &name) }

func (m *methodKnown) String() string {
	if name := m.name.Load(); name != nil {
		return *name
	}
	return ""
}

func (s *ClientStream[Req, Res]) methodName() string { return s.method.String() }

// observed asks the observers that want to know of each stream. It is called once, before the lifecycle goroutine begins.
func (s *ClientStream[Req, Res]) observed() {
	if s.events == nil {
		return
	}
	id := s.options.streamID
	if id == (StreamID{}) {
		id = newStreamID()
	}
	seen := &Observed{ID: id, Name: s.options.name, Began: s.born, stream: s}
	observers := make([]Observer, 0, len(s.options.observers))
	for _, o := range s.options.observers {
		observers = append(observers, o)
		if each, ok := o.(StreamObserver); ok {
			if own := each.ObserveStream(s.ctx, seen); own != nil {
				observers = append(observers, apart(own, (*Hooks).forClients)...)
			}
		}
	}
	s.events.start(id, observers)
}

// ofAttempt returns the context of an attempt, with what observers put into it.
func (ev *events) ofAttempt(ctx context.Context, epoch uint64) context.Context {
	if ev == nil {
		return ctx
	}
	for _, o := range ev.observers {
		if o, ok := o.(AttemptObserver); ok {
			if own := o.ObserveAttempt(ctx, ev.info(epoch, time.Now())); own != nil {
				ctx = own //nolint:fatcontext // of one observer after the other
			}
		}
	}
	return ctx
}

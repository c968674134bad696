package stream

import "time"

// ServerInfo is part of every event of a server stream.
type ServerInfo struct {
	// Method is the full name of the method, such as /package.Service/Method.
	Method string
	// Attempt is what the client has told with WithResumeMetadata. Otherwise it is zero.
	Attempt Attempt
	// Time is when the event happened.
	Time time.Time
}

// ServerSummary says how a server stream has ended.
type ServerSummary struct {
	// End says what ended the stream.
	End End
	// Err is what the client gets: nil is OK. It is an [*EndedError] if the stream was ended early, and a [*PanicError] if the
	// handler has panicked.
	Err error
	// Duration is how long the stream has lived.
	Duration time.Duration
	// Received and Sent count the messages.
	Received, Sent uint64
}

// ServerOpenedObserver is told that a stream was let in, before its handler is called.
//
// An observer that is given to a server by WithObserver is called in the goroutine of the stream, so it has to return quickly. It
// is called by several streams at a time. No event is dropped. If it panics, that is ignored.
type ServerOpenedObserver interface{ OnServerOpened(info ServerInfo) }

// ServerRefusedObserver is told that a stream was refused: by a policy, a drain, the fence, or because of its metadata or
// authorization. See [ServerOpenedObserver].
type ServerRefusedObserver interface {
	OnServerRefused(info ServerInfo, cause error)
}

// ServerEndedObserver is told that a stream has ended. That is when the client gets its status: the handler may go on if the
// stream was ended early. It is told once for each call of OnServerOpened. See [ServerOpenedObserver].
type ServerEndedObserver interface {
	OnServerEnded(info ServerInfo, summary ServerSummary)
}

// ServerAbandonedObserver is told that a handler has returned whose stream was ended early, and how long it has taken since then.
// panicked is nil if it has not panicked; nobody else sees that panic. See [ServerOpenedObserver].
type ServerAbandonedObserver interface {
	OnServerAbandoned(info ServerInfo, late time.Duration, panicked *PanicError)
}

// observesServers reports whether o is told of server streams.
func observesServers(o Observer) bool {
	switch o.(type) {
	case ServerOpenedObserver, ServerRefusedObserver, ServerEndedObserver, ServerAbandonedObserver, ServerStreamObserver:
		return true
	default:
		return false
	}
}

func (s *ServerStream) info() ServerInfo {
	return ServerInfo{Method: s.method, Attempt: s.attempt, Time: time.Now()}
}

// tell calls f with each observer that is a T. A panic of an observer is not the stream's.
func tell[T any](s *ServerStream, f func(T, ServerInfo)) {
	for _, observers := range [...][]Observer{s.server.options.observers, s.observers} {
		for _, o := range observers {
			if t, ok := o.(T); ok {
				func() {
					defer func() { _ = recover() }()
					f(t, s.info())
				}()
			}
		}
	}
}

// needsCounts reports whether o asks how many messages there were.
func needsCounts(o Observer) bool {
	switch o.(type) {
	case ServerEndedObserver, ServerStreamObserver:
		return true
	default:
		return false
	}
}

// observed asks the observers that want to know of each stream.
func (s *ServerStream) observed() {
	tell(s, func(o ServerStreamObserver, info ServerInfo) {
		own := o.ObserveServerStream(&ServerObserved{Method: info.Method, Attempt: info.Attempt, Began: info.Time, stream: s})
		if own != nil {
			s.observers = append(s.observers, apart(own, (*Hooks).forServers)...)
		}
	})
}

// tellOpened tells that the stream was let in.
func (s *ServerStream) tellOpened() {
	s.countedAs = s.server.options.counters.opened(s.method)
	s.observed()
	tell(s, func(o ServerOpenedObserver, info ServerInfo) { o.OnServerOpened(info) })
}

// tellRefused tells that it was not.
func (s *ServerStream) tellRefused(cause error) {
	s.server.options.counters.refused()
	tell(s, func(o ServerRefusedObserver, info ServerInfo) { o.OnServerRefused(info, cause) })
}

// tellEnded tells of the end of the stream, once.
func (s *ServerStream) tellEnded(end End, err error) {
	s.server.options.counters.ended(s.countedAs, end)
	tell(s, func(o ServerEndedObserver, info ServerInfo) {
		o.OnServerEnded(info, ServerSummary{
			End: end, Err: err, Duration: info.Time.Sub(s.began), Received: s.received.Load(), Sent: s.sent.Load(),
		})
	})
}

// tellAbandoned tells that the handler of a stream that was ended early has returned.
func (s *ServerStream) tellAbandoned() {
	end := s.ending.Load()
	if end == nil || end.early == nil || !s.ran {
		return
	}
	s.server.options.counters.abandoned(-1)
	tell(s, func(o ServerAbandonedObserver, info ServerInfo) {
		o.OnServerAbandoned(info, info.Time.Sub(end.at), s.outcome.panicked)
	})
}

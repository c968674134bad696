package stream_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"google.golang.org/grpc"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/stream"
)

// goodbye, from a server, announces that it will end the attempt.
const goodbye = kind(97)

// errGoodbye is what the Err callback makes of it.
var errGoodbye = fmt.Errorf("the server drains: %w", stream.Rotate)

// announced are callbacks that know goodbyes, too.
func announced(cb callbacks) callbacks {
	cb.Err = func(m *response) error {
		if frameOf(m).kind == goodbye {
			return errGoodbye
		}
		return nil
	}
	return cb
}

// byToken are callbacks whose positions are tokens, which have no order.
func byToken(cb callbacks) callbacks {
	cb.Resume = func(_ context.Context, r *resumption) error {
		seq, _ := strconv.ParseUint(r.Position().Token, 10, 64) // none: the beginning
		if err := r.Send(frame{kind: hello, seq: seq}.request()); err != nil {
			return err
		}
		m, err := r.Recv()
		if err == nil {
			r.Acknowledge(frameOf(m).seq)
		}
		return err
	}
	cb.Checkpoint = func(m *response) (checkpoint.Position, bool) {
		fr := frameOf(m)
		return checkpoint.Position{Token: strconv.FormatUint(fr.seq, 10)}, fr.kind == data
	}
	return cb
}

// unitOf is the number of the fragment before a message, where a leaver has fragments.
func unitOf(seq uint64) uint64 { return 1000 + seq }

// leavers are the handlers of a feed that announce their end.
type leavers struct {
	feed      *feed
	after     int   // each announces its end after so many messages
	handlers  int   // as many of the first do so
	ends      error // with which they end right after that; nil: they go on until the client has left
	fragments bool  // each message has a fragment without a position before it

	mu    sync.Mutex // guards begun
	begun []*leaver
}

// leaver is one of them.
type leaver struct {
	bidi
	of    *leavers
	sent  int
	over  chan error // buffered; ends the handler
	gone  chan struct{}
	leads bool // it announces its end
}

// leave makes the handlers of f leavers.
func (l *leavers) leave(f *feed) {
	l.feed = f
	serve := f.handler
	if serve == nil {
		serve = f.serve
	}
	f.handler = func(s bidi) error {
		l.mu.Lock()
		h := &leaver{bidi: s, of: l, over: make(chan error, 2), gone: make(chan struct{}), leads: len(l.begun) < l.handlers}
		l.begun = append(l.begun, h)
		l.mu.Unlock()
		defer close(h.gone)
		go func() { h.over <- serve(h) }() // ends with the stream; nobody waits for it: the bubble would tell
		return <-h.over
	}
}

// end ends handler n, counted from 1, with err, and waits until it is over.
func (l *leavers) end(n int, err error) {
	l.mu.Lock()
	h := l.begun[n-1]
	l.mu.Unlock()
	h.over <- err
	<-h.gone
}

func (h *leaver) Send(m *response) error {
	if fr := frameOf(m); h.of.fragments && fr.kind == data {
		if err := h.one(frame{kind: fragment, seq: unitOf(fr.seq)}.response()); err != nil {
			return err
		}
	}
	return h.one(m)
}

func (h *leaver) one(m *response) error {
	if h.leads && h.sent == h.of.after {
		h.sent++
		if err := h.bidi.Send(frame{kind: goodbye}.response()); err != nil {
			return err
		}
		if h.of.ends != nil {
			h.over <- h.of.ends
			return h.of.ends
		}
	}
	h.sent++
	return h.bidi.Send(m)
}

// opensDo is a dial option that calls f before attempt n is opened, counted from 1.
func opensDo(f func(n int) error) grpc.DialOption {
	return grpc.WithStreamInterceptor(opensWith(f))
}

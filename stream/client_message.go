package stream

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/failsafe-go/failsafe-go"

	"github.com/streamsafe/streamsafe/internal/outbox"
	"github.com/streamsafe/streamsafe/internal/permit"
	"github.com/streamsafe/streamsafe/internal/rpcstatus"
)

// This file runs the application's Send and Recv under the policies for messages.

// cutter gives up the attempt that a call is on, if a policy has ended the call's execution. One direction of a stream has one,
// if its policies need an executor.
type cutter[Req, Res any] struct {
	ctx context.Context                   //nolint:containedctx // of the execution; owned by the call
	on  atomic.Pointer[attempt[Req, Res]] // written by the call, read by the context's watch
}

// enters notes the attempt that the call is on. It reports whether the execution goes on. Most streams have no cutter.
func (c *cutter[Req, Res]) enters(a *attempt[Req, Res]) bool { return c == nil || c.goesOn(a) }

func (c *cutter[Req, Res]) goesOn(a *attempt[Req, Res]) bool {
	c.on.Store(a)
	return c.ctx.Err() == nil
}

// sends is enters for a Send, which has its turn and cannot go back. If the execution is over, nobody will look for the attempt any
// more: it is given up here.
func (c *cutter[Req, Res]) sends(a *attempt[Req, Res]) {
	if c != nil && !c.goesOn(a) {
		c.cut("send")
	}
}

func (c *cutter[Req, Res]) leaves() {
	if c != nil {
		c.on.Store(nil)
	}
}

// expired reports whether a policy has ended the execution.
func (c *cutter[Req, Res]) expired() bool { return c != nil && c.ctx.Err() != nil }

// cut gives up the attempt that the call is on.
func (c *cutter[Req, Res]) cut(op string) {
	if a := c.on.Load(); a != nil {
		a.fail(&loss{op: op, err: cutBy(errors.New("by a policy for messages")), origin: fromStream})
	}
}

// errAnotherTry is what policies see of a call that they have cut.
var errAnotherTry = errors.New("the attempt was given up")

// recvUnderPolicies is Recv under policies.
func (s *ClientStream[Req, Res]) recvUnderPolicies(into *Res) (*Res, error) {
	if s.recvs.executor != nil {
		return s.recvUnderExecutor(into)
	}
	if s.ctx.Err() != nil { // what is left is handed over as it is
		return s.receive(into, nil, nil)
	}
	var held permit.Held
	if denied, err := s.recvs.chain.Acquire(s.ctx, &held); denied != nil {
		return nil, s.refusal(deniedError("recv", string(denied.Kind()), denied.RetryAfter(), err))
	} else if err != nil {
		return s.receive(into, nil, nil) // the stream has ended
	}
	g := guard{gone: func() { held.End(permit.Left, nil) }}
	defer g.check()
	m, err := s.receive(into, &held, nil)
	g.returned = true
	if err == nil || errors.Is(err, io.EOF) {
		held.End(permit.Served, nil)
	} else {
		held.End(permit.Unrun, nil) // its cause was told before, if it is a fault
	}
	return m, err
}

// faultIn tells the policies if a has ended by a fault of the server, or of the transport.
func (s *ClientStream[Req, Res]) faultIn(a *attempt[Req, Res], held *permit.Held) {
	if held == nil || s.ctx.Err() != nil {
		return
	}
	l := a.loss.Load()
	if l == nil || l.endsWell() || l.origin == fromClient || l.origin == fromCallback || isCut(l.err) || s.isPlanned(l) {
		return
	}
	if rpcstatus.IsServerFault(l.err) {
		held.Fault(l.err)
	}
}

// recvUnderExecutor is Recv under policies that need an executor. An execution begins when there is an attempt.
func (s *ClientStream[Req, Res]) recvUnderExecutor(into *Res) (*Res, error) {
	for {
		s.inbox.Await()
		if s.ctx.Err() != nil {
			return s.receive(into, nil, nil)
		}
		var m *Res
		var end error
		called, again := false, false
		_, err := s.recvs.executor.GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
			if called {
				return nil, errAnotherTry // nothing is received twice for one Recv
			}
			called = true
			stop := s.watchExecution(s.recvCut, exec, "recv")
			defer stop()
			m, end = s.receive(into, nil, s.recvCut)
			switch {
			case errors.Is(end, errAnotherTry):
				end, again = nil, true
				return nil, errAnotherTry
			case errors.Is(end, io.EOF):
				return nil, nil //nolint:nilnil // the end is a success, and there is no message
			case end != nil:
				return nil, end
			}
			return any(m), nil
		})
		into = nil
		switch {
		case m != nil: // whatever the policies say now, it has arrived
			return m, nil
		case end != nil:
			return nil, end
		case again, s.ctx.Err() != nil:
		default:
			return nil, s.refusal(deniedError("recv", "", s.options.recvs.retryAfter(err), err))
		}
	}
}

// watchExecution makes c give up the attempt when the context of exec is done. The stream's own end does that already.
//
//nolint:contextcheck,nolintlint // the context is a child of the stream's
func (s *ClientStream[Req, Res]) watchExecution(c *cutter[Req, Res], exec failsafe.Execution[any], op string) (stop func() bool) {
	ctx := exec.Context()
	c.ctx = ctx
	if ctx.Done() == s.ctx.Done() {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() {
		c.cut(op)
		if op == "send" {
			s.outbox.Interrupt()
		}
	})
}

// sendUnderPolicies is Send under policies.
func (s *ClientStream[Req, Res]) sendUnderPolicies(m *Req, how *manner[Req, Res]) error {
	if s.sends.executor != nil {
		return s.sendUnderExecutor(m, how)
	}
	if s.ctx.Err() != nil {
		return s.send(m, how, nil, nil)
	}
	var held permit.Held
	if denied, err := s.sends.chain.Acquire(s.ctx, &held); denied != nil {
		return s.refusal(deniedError("send", string(denied.Kind()), denied.RetryAfter(), err))
	} else if err != nil {
		return s.send(m, how, nil, nil) // the stream has ended
	}
	g := guard{gone: func() { held.End(permit.Left, nil) }}
	defer g.check()
	err := s.send(m, how, &held, nil)
	g.returned = true
	if err == nil {
		held.End(permit.Served, nil)
	} else {
		held.End(permit.Unrun, nil) // its cause was told before, if it is a fault
	}
	return err
}

// sendUnderExecutor is Send under policies that need an executor.
func (s *ClientStream[Req, Res]) sendUnderExecutor(m *Req, how *manner[Req, Res]) error {
	if s.ctx.Err() != nil {
		return s.send(m, how, nil, nil)
	}
	called := false
	var sent error
	_, err := s.sends.executor.GetWithExecution(func(exec failsafe.Execution[any]) (any, error) {
		if called {
			return nil, sent // nothing is sent twice for one Send
		}
		called = true
		stop := s.watchExecution(s.sendCut, exec, "send")
		defer stop()
		sent = s.send(m, how, nil, s.sendCut)
		if errors.Is(sent, io.EOF) || errors.Is(sent, errPassOver) {
			return nil, nil //nolint:nilnil // Recv tells how the stream has ended
		}
		return nil, sent
	})
	switch {
	case called && !errors.Is(sent, errAnotherTry):
		return sent // whatever the policies say now, it has happened
	case s.ctx.Err() != nil:
		return s.send(m, how, nil, nil)
	default:
		return s.refusal(deniedError("send", "", s.options.sends.retryAfter(err), err))
	}
}

// waitForTurn is Begin that waits, until c's execution is over.
func (s *ClientStream[Req, Res]) waitForTurn(m *Req, seq uint64, c *cutter[Req, Res]) (outbox.Ticket[*attempt[Req, Res]], outbox.Verdict) {
	for {
		t, verdict := s.outbox.Begin(m, seq, true)
		waits := verdict == outbox.NotYet || verdict == outbox.Full && !s.options.replayLimits.FailWhenFull && s.kind != clientStreaming
		switch {
		case !waits:
			return t, verdict
		case c.expired() && s.ctx.Err() == nil:
			return t, outbox.NotYet
		}
	}
}

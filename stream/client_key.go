package stream

import (
	"fmt"

	"github.com/streamsafe/streamsafe/internal/outbox"
)

// KeyLimits limits what Callbacks.Key makes the stream keep. The zero value has the defaults.
type KeyLimits struct {
	// Keys is the maximum number of keys. Zero: 16,384. Negative: no limit.
	Keys int
	// Bytes is the maximum size of the kept messages, encoded, and of their keys. Zero: 16 MiB. Negative: no limit. It is an
	// error if both fields are negative.
	Bytes int
}

// WithKeyLimits changes the limits of what Callbacks.Key makes the stream keep. If a message does not fit, Send returns an error
// with ReasonWindowFull. It needs Callbacks.Key. Default: the zero KeyLimits.
func WithKeyLimits(limits KeyLimits) ClientOption {
	return clientOption(func(o *clientOptions) { o.keyLimits, o.keyLimited = limits, true })
}

func (o *clientOptions) validateKeys(has callbackSet, refuse refusal) {
	refuse(has.key && o.replay, "Callbacks.Key and WithReplay exclude each other: the order of both kinds of messages would be lost")
	refuse(has.key && has.kind != bidirectional, "Callbacks.Key is for methods that take a stream and return one")
	refuse(o.keyLimited && !has.key, "WithKeyLimits needs Callbacks.Key")
	refuse(o.keyLimits.Keys < 0 && o.keyLimits.Bytes < 0, "KeyLimits needs a limit")
}

// keyOf returns the key of m, empty if it has none.
func (s *ClientStream[Req, Res]) keyOf(m *Req) (key string, last bool) {
	if of := s.callbacks.Key; of != nil {
		key, last = of(m)
	}
	return key, last
}

// sendState is Send for a message with a key.
func (s *ClientStream[Req, Res]) sendState(m *Req, key string, last bool, cut *cutter[Req, Res]) error {
	data, err := s.codec.Marshal(m)
	if err != nil {
		return s.refusal(refused(fmt.Errorf("encoding the message of key %q: %w", key, err)))
	}
	if s.outbox.Watch() {
		s.watchSends()
	}
	t, verdict := s.outbox.BeginKey(m, key, last, data)
	switch verdict { //nolint:exhaustive // the others refuse it
	case outbox.Stored:
		return nil
	case outbox.Go:
	case outbox.Full:
		kept := s.outbox.Stats()
		return s.refusal(&Error{Op: "send", Reason: ReasonWindowFull, Cause: fmt.Errorf(
			"%d keys of %d bytes are kept: see WithKeyLimits", kept.Keys, kept.KeysSize)})
	default:
		return s.refusal(s.notSent(verdict, 0))
	}
	said, err := s.sendOn(t, m, cut)
	outcome, _ := s.outbox.Settle(t, said)
	s.actOn(t.Attempt, outcome.Attempt, err)
	switch outcome.Message {
	case outbox.InDoubt:
		return s.refusal(inDoubt(err))
	case outbox.TakenBack:
		return s.refusal(refused(err))
	case outbox.Sent, outbox.Again: // if the attempt is over, the next one gets it
	}
	return nil
}

// sendStates sends the newest message of each key on a. It reports whether a is still of use.
func (s *ClientStream[Req, Res]) sendStates(a *attempt[Req, Res]) bool {
	for a.ctx.Err() == nil {
		k, key, ok := s.outbox.NextState()
		if !ok {
			return true
		}
		sent, alive := s.sendAgain(a, k, 0)
		if !alive {
			return false
		}
		if !sent {
			s.outbox.DropState(key)
		}
	}
	return false
}

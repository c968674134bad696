package stream

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
	"github.com/streamsafe/streamsafe/internal/inbox"
)

// ClientOption configures a resilient client stream. Options that contradict each other, or the callbacks, make Resilient
// return an error with ReasonOptions. So does a nil ClientOption.
type ClientOption interface{ applyClient(o *clientOptions) }

type clientOption func(*clientOptions)

func (f clientOption) applyClient(o *clientOptions) { f(o) }

// clientOptions is what the options of one stream come to.
type clientOptions struct {
	name      string
	call      []grpc.CallOption
	finished  []func(error) // to be called at the end of the stream
	observers []Observer

	stream, open   *policyChain
	sends, recvs   *policyChain // for messages
	resumeOff      bool
	stableFor      time.Duration
	limits         limits
	resumable      func(error) bool
	lost           func(error) bool
	poisonLimit    int
	restart        bool
	gapDetection   bool
	holds          bool
	holdLimit      int
	overflow       Overflow
	replay         bool
	replayLimits   ReplayLimits
	keyLimits      KeyLimits
	keyLimited     bool
	atMostOnce     bool
	okAcknowledges bool
	endless        bool
	age            maxAge
	grace          time.Duration // of a rotation; tests make it shorter
	alsoResumable  []codes.Code
	position       checkpoint.Position
	store          *storeOptions // nil: the position is kept nowhere
	manual         bool
	nilOption      bool     // of Options
	streamID       StreamID // zero: no metadata is sent
}

// storeOptions is what WithStore and its options come to.
type storeOptions struct {
	store     checkpoint.Store
	key       string
	every     int64
	interval  time.Duration
	timeout   time.Duration
	nilOption bool
}

// policyChain is what the options for one scope of policies gave: policies or an executor. It is nil if they gave nothing.
type policyChain struct {
	policies []failsafe.Policy[any]
	executor failsafe.Executor[any]
}

// Overflow says what happens if HoldUntilCheckpoint would have to hold more than its limit.
type Overflow uint8

const (
	// OverflowFail ends the stream with ReasonHeldOverflow.
	OverflowFail Overflow = iota
	// OverflowDeliver hands over what is held, as DeliverImmediately does. These messages may come again after a break.
	OverflowDeliver
)

// ReplayLimits limits what WithReplay keeps. The zero value has the defaults.
type ReplayLimits struct {
	// Messages is the maximum number of messages that are kept. Zero: 16,384. Negative: as many as Bytes allows at 96
	// bytes each.
	Messages int
	// Bytes is their maximum size, encoded. The newest message may exceed it. Zero: 16 MiB. Negative: no limit. It is an
	// error if both fields are negative.
	//
	// If the limits are smaller than the data in flight, fast senders stall. 64 KiB are in flight by default, and more on
	// long or fast connections.
	Bytes int
	// FailWhenFull makes Send return an error with ReasonWindowFull if a limit is reached. By default Send waits for an
	// acknowledgement.
	FailWhenFull bool
}

func defaultClientOptions() clientOptions {
	return clientOptions{
		stableFor: 10 * time.Second,
		grace:     rotationGrace,
	}
}

// optionsOf returns what opts come to, checked.
func optionsOf(has callbackSet, opts []ClientOption) (clientOptions, error) {
	o := defaultClientOptions()
	for _, opt := range opts {
		if opt == nil {
			return o, errors.New("an option is nil")
		}
		opt.applyClient(&o)
	}
	if o.nilOption {
		return o, errors.New("an option is nil")
	}
	return o, o.validate(has)
}

// validate checks the options against each other, and against the callbacks that there are.
func (o *clientOptions) validate(has callbackSet) error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	o.validateKind(has, refuse)
	o.validateSending(has, refuse)
	o.validatePositions(has, refuse)
	o.validateStore(has, refuse)
	o.validateKeys(has, refuse)
	o.age.validate(refuse)
	refuse(o.age.most > 0 && o.resumeOff, "WithMaxAge and WithoutResume exclude each other")
	refuse(o.endless && o.resumeOff, "WithEndless and WithoutResume exclude each other")
	refuse((o.replay || o.holds || has.key) && codecOf(o.call) == nil, "no codec is registered for the content subtype of the call options")
	for _, observer := range o.observers {
		refuse(!observes(observer), "observer %T implements none of the observer interfaces", observer)
	}
	refuse(o.open.hedges() && slices.ContainsFunc(o.call, hasTarget), "a hedge would have two opens write the target of a call option")
	errs = append(errs, o.stream.validate("stream"), o.open.validate("open"), validateMessages(o.sends, o.recvs))
	return joined(errs)
}

// refusal notes that options do not fit together, if that is so.
type refusal func(bad bool, format string, args ...any)

func (o *clientOptions) validateSending(has callbackSet, refuse refusal) {
	refuse(o.replay && o.atMostOnce, "WithReplay and WithAtMostOnceSends exclude each other")
	refuse(o.replay && !has.acked && has.kind == bidirectional, "WithReplay needs Callbacks.Acked: nothing would ever leave the buffer")
	refuse(!o.replay && has.replay, "Callbacks.Replay needs WithReplay")
	refuse(o.replay && o.replayLimits.Messages < 0 && o.replayLimits.Bytes < 0, "ReplayLimits needs a limit")
	refuse(o.limits.ack > 0 && !has.acked, "WithAckTimeout needs Callbacks.Acked")
}

func (o *clientOptions) validatePositions(has callbackSet, refuse refusal) {
	refuse(o.holds && !has.checkpoint, "HoldUntilCheckpoint needs Callbacks.Checkpoint: nothing would ever be released")
	refuse(o.holds && o.holdLimit <= 0, "HoldUntilCheckpoint needs a limit above zero, not %d", o.holdLimit)
	refuse(o.overflow > OverflowDeliver, "unknown Overflow %d", o.overflow)
	refuse(o.gapDetection && !has.checkpoint, "WithGapDetection needs Callbacks.Checkpoint")
	refuse(has.checkpoint && !o.usesPositions(has) && has.kind == serverStreaming, "Callbacks.Checkpoint needs Callbacks.Request, "+
		"which asks the server for what remains: without it each attempt asks for everything. Or use WithResumeMetadata, if the server "+
		"reads that; WithRestart, if starting over loses nothing; or WithoutResume, if the first break is the end")
	refuse(has.checkpoint && !o.usesPositions(has) && has.kind != serverStreaming, "Callbacks.Checkpoint needs Callbacks.Resume, which tells the server where to go on: "+
		"without it a break loses messages. Or use WithResumeMetadata, if the server reads that; WithReplay, if the server knows what it has sent; WithRestart, if it starts over; "+
		"or WithoutResume, if the first break is the end")
	refuse(!o.position.IsZero() && !has.resume && !has.asks && !o.sendsMetadata(),
		"WithPosition needs Callbacks.Resume, which tells the server where to start, or WithResumeMetadata")
	refuse(!o.position.IsZero() && o.store != nil, "WithPosition and WithStore exclude each other: the store has the position")
}

// usesPositions reports whether anything comes of the positions that Checkpoint tells.
func (o *clientOptions) usesPositions(has callbackSet) bool {
	return has.resume || has.asks || o.replay || o.restart || o.sendsMetadata() || o.resumeOff && o.store == nil
}

func (o *clientOptions) validateStore(has callbackSet, refuse refusal) {
	refuse(o.store != nil && o.store.store == nil, "WithStore needs a store")
	refuse(o.store != nil && o.store.nilOption, "an option of WithStore is nil")
	refuse(o.store != nil && !has.checkpoint, "WithStore needs Callbacks.Checkpoint: there would be nothing to commit")
	refuse(o.manual && o.store == nil, "WithManualCommit needs WithStore")
}

// hasTarget reports whether a call option is written to when the call is over.
func hasTarget(opt grpc.CallOption) bool {
	switch opt.(type) {
	case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption:
		return true
	default:
		return false
	}
}

// joined returns the errors that are not nil as one of one line, nil where there is none.
func joined(errs []error) error {
	var all error
	for _, err := range errs {
		switch {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// callbackSet tells which callbacks there are.
type callbackSet struct {
	method
	acked, checkpoint, control, key, replay, request, resume, sequence bool
}

// set tells which callbacks there are, for a method.
func (c *Callbacks[Req, Res]) set(of method) callbackSet {
	return callbackSet{
		method: of,
		acked:  c.Acked != nil, checkpoint: c.Checkpoint != nil, control: c.Control != nil, key: c.Key != nil, replay: c.Replay != nil,
		request: c.Request != nil, resume: c.Resume != nil, sequence: c.Sequence != nil,
	}
}

// withDefaults returns the limits with zero and negative values replaced.
func (l ReplayLimits) withDefaults() ReplayLimits {
	l.Bytes = orDefault(l.Bytes, 16<<20)
	if l.Messages < 0 {
		l.Messages = l.Bytes/inbox.MinSize + 1
	}
	l.Messages = orDefault(l.Messages, 16<<10)
	return l
}

// orDefault returns d for zero, and no limit for less.
func orDefault(v, d int) int {
	switch {
	case v == 0:
		return d
	case v < 0:
		return math.MaxInt
	default:
		return v
	}
}

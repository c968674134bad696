package stream

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// WithName names the stream in what observers are told. Default: empty.
func WithName(name string) ClientOption {
	return clientOption(func(o *clientOptions) { o.name = name })
}

// WithCallOptions passes options to every attempt's call.
//
// With grpc.WaitForReady(true) an attempt waits until there is a connection. Otherwise it fails at once, and the stream
// backs off further than the network would need. Set WithOpenTimeout together with it.
//
// WithReplay and HoldUntilCheckpoint put a codec of their own around the call's. They see one that is chosen by these
// options, and otherwise take proto: a codec or a content subtype that grpc.WithDefaultCallOptions sets has to be repeated
// here.
func WithCallOptions(opts ...grpc.CallOption) ClientOption {
	return clientOption(func(o *clientOptions) { o.call = append(o.call, opts...) })
}

// WithObserver tells observer what happens to the stream. It may be given several times.
func WithObserver(observer Observer) ClientOption {
	return clientOption(func(o *clientOptions) { o.observers = append(o.observers, observer) })
}

// WithoutResume turns resuming off: the first attempt that is lost, or cannot be opened, ends the stream, with
// ReasonResumeOff where it might have been resumed.
func WithoutResume() ClientOption {
	return clientOption(func(o *clientOptions) { o.resumeOff = true })
}

// WithStableFor sets how long an attempt has to stay attached for the outage before it to be over, and so for the
// backoff to start anew. Default: 10 s. Zero or less: an attempt is stable as soon as it is attached.
func WithStableFor(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.stableFor = d })
}

// WithResumable replaces the table of what may be resumed. f is asked about errors of the server and the transport,
// when opening, in Resume and in mid-stream alike, twice about some; it is not asked about io.EOF, the application's own
// context and the time limits of this package. Where opens are hedged, two goroutines may ask at once. The safe defaults
// hold all the same.
func WithResumable(f func(error) bool) ClientOption {
	return clientOption(func(o *clientOptions) { o.resumable = f })
}

// WithAlsoResumable adds codes of the server to the table of [Resumable]: a status with one of them is resumed, OUT_OF_RANGE
// included. Default: none. It does not add to what [WithResumable] decides.
func WithAlsoResumable(also ...codes.Code) ClientOption {
	return clientOption(func(o *clientOptions) { o.alsoResumable = append(o.alsoResumable, also...) })
}

// WithEndless says that the stream has no end of its own, as a watch or a feed has none. OK from the server, before the
// application calls CloseSend, is a planned close then: the stream is resumed after a jittered wait, and no policy counts it as
// a failure. The wait grows with each close of an attempt that brought nothing new, up to 10 s. Default: OK is the end.
func WithEndless() ClientOption {
	return clientOption(func(o *clientOptions) { o.endless = true })
}

// WithOKAcknowledges says that the server's OK acknowledges everything that was sent. Default: OK is no receipt, and the
// stream ends with ReasonUnacked if a message that WithReplay keeps is not acknowledged.
func WithOKAcknowledges() ClientOption {
	return clientOption(func(o *clientOptions) { o.okAcknowledges = true })
}

// WithPosition sets where the stream starts: Resume sees p on the first attempt. It is for applications that keep the position
// themselves, and excludes WithStore. Default, and the zero Position: from the beginning.
func WithPosition(p checkpoint.Position) ClientOption {
	return clientOption(func(o *clientOptions) { o.position = p })
}

// WithAckTimeout gives up an attempt when something that was sent is unacknowledged, and nothing was acknowledged for d,
// whatever else the server sends. It is found to be passed up to an eighth late (1 ms at the least). If nobody receives, the
// stream does, so that acknowledgements are seen. Default, and zero or less: no limit.
func WithAckTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.ack = d })
}

// WithPositionLost replaces the rule by which an error says that the server no longer has the position. Default:
// errors that match [ErrPositionLost], and the status OUT_OF_RANGE. f is asked as WithResumable's is.
func WithPositionLost(f func(error) bool) ClientOption {
	return clientOption(func(o *clientOptions) { o.lost = f })
}

// WithPoisonLimit ends the stream with ReasonPoison when that many attempts in a row were lost at the same place: the
// first may have brought messages up to it, and those after it brought nothing new. What comes next may be what kills
// them. Attempts that could not be opened do not count. Default, and zero or less: no limit.
func WithPoisonLimit(attempts int) ClientOption {
	return clientOption(func(o *clientOptions) { o.poisonLimit = attempts })
}

// WithRestart says that to start over is right where there is no Checkpoint callback: the server sends a full snapshot
// first (health watches, xDS). Default: a stream that has delivered a message is not resumed without a position.
func WithRestart() ClientOption {
	return clientOption(func(o *clientOptions) { o.restart = true })
}

// DeliverImmediately hands over messages as they come. Those that come after the last position before a break may come
// again: at least once. It is the default.
func DeliverImmediately() ClientOption {
	return clientOption(func(o *clientOptions) { o.holds = false })
}

// HoldUntilCheckpoint keeps messages back until one with a position comes, and then hands over all of them. On a break
// the held ones are dropped, and come again: exactly once, within the process. Where the server ends the stream with OK,
// they are handed over. At most maxBytes of encoded messages are held, each counted with 96 bytes at the least; overflow
// says what happens to more.
func HoldUntilCheckpoint(maxBytes int, overflow Overflow) ClientOption {
	return clientOption(func(o *clientOptions) { o.holds, o.holdLimit, o.overflow = true, maxBytes, overflow })
}

// WithGapDetection says that each message with a position has the Seq after the one before. A missing one breaks the
// attempt; where it is still missing after a resume, the stream ends with ReasonGap.
func WithGapDetection() ClientOption {
	return clientOption(func(o *clientOptions) { o.gapDetection = true })
}

// WithReplay keeps sent messages, encoded, until Callbacks.Acked says that the server has them, and sends them again,
// in order, on the attempt after a break; the codec has to decode requests, too. A Send that finds the limits reached
// waits, or fails, as limits say.
// Acknowledgements come by Recv: somebody has to be receiving.
//
// The server may see a message again that it has had. So that it can tell, put the sequence number into the message:
// the library does not transmit it. See Callbacks.Sequence.
func WithReplay(limits ReplayLimits) ClientOption {
	return clientOption(func(o *clientOptions) { o.replay, o.replayLimits = true, limits })
}

// WithAtMostOnceSends says that what was sent and is on its way at a break may be lost. Default: a break after a Send
// ends the stream with ReasonSendsInDoubt, as a nil error from Send says nothing of delivery.
//
// It is right where Resume tells the server again what still matters, as subscriptions do. Add one to what Resume knows
// before it is sent: an attempt that begins in between brings it twice, and none forgets it.
func WithAtMostOnceSends() ClientOption {
	return clientOption(func(o *clientOptions) { o.atMostOnce = true })
}

// WithOpenTimeout limits the opening of one attempt, Resume included. An attempt over the limit counts as a failed
// one. Default, and zero or less: no limit.
func WithOpenTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.open = d })
}

// WithFirstMessageTimeout limits the wait for the first message of an attempt, while Recv waits for it. Default, and
// zero or less: WithIdleTimeout counts. It is found to be passed up to an eighth late (of the shorter of the two).
func WithFirstMessageTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.firstMessage = d })
}

// WithIdleTimeout limits the wait for a message, of any kind, while Recv waits for it: an attempt on a dead connection
// that looks alive is given up after that time, or up to an eighth of it (1 ms at the least) later. Servers with nothing
// to say need a heartbeat (invariant 22). Default, and zero or less: no limit.
//
// The next attempt is opened on the same connection for as long as grpc takes that to be alive. Only keepalive
// (grpc.WithKeepaliveParams, 10 s at the least) makes grpc find out.
func WithIdleTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.idle = d })
}

// WithSendTimeout limits the time that the transport takes to accept one message: flow control is stalled after it, and
// the attempt is given up, or up to an eighth of that time (1 ms at the least) later. Default, and zero or less: no limit.
func WithSendTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.send = d })
}

// WithMaxOutage ends the stream with ReasonMaxOutage when an outage has lasted that long and no attempt is attached. An
// outage begins with the first open, or the loss of an attempt, and lasts until an attempt has stayed attached for the
// time of WithStableFor: a limit below that time ends the stream at the first loss of an attempt that was younger.
// Default, and zero or less: no limit but the context.
func WithMaxOutage(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.maxOutage = d })
}

// WithStore keeps the stream's position under key. The stream acquires the key when it is opened, which fences every
// earlier owner, and starts from the position there. What the application has processed is written off the message
// path, and on Close, at the end and on failure. Another owner ends the stream with ReasonFenced. A message counts as
// processed when the next Recv begins (see WithManualCommit).
//
// Together with WithReplay: in a new process no message counts as sent. Resume has to learn from the server how far it
// got and tell [Resumption.Acknowledge], or an acknowledgement of what an earlier process has sent ends the stream with
// ReasonProtocol.
func WithStore(store checkpoint.Store, key string, opts ...StoreOption) ClientOption {
	return clientOption(func(o *clientOptions) {
		o.store, o.key, o.storeConfigured = store, key, true
		for _, opt := range opts {
			if opt == nil {
				o.nilStoreOption = true
				continue
			}
			opt(o)
		}
	})
}

// WithManualCommit leaves it to the Commit method to say what is processed. Default: a message counts as processed when
// the next Recv begins.
func WithManualCommit() ClientOption {
	return clientOption(func(o *clientOptions) { o.manual = true })
}

// StoreOption configures WithStore.
type StoreOption func(*clientOptions)

// CommitEvery sets after how many processed messages the position is written. Default: 100. Below 1: 1.
func CommitEvery(messages int) StoreOption {
	return func(o *clientOptions) { o.commitEvery = int64(max(1, messages)) }
}

// CommitInterval sets the longest time between a message being processed and the write. Default: 1 s. Zero or less: the
// default.
func CommitInterval(d time.Duration) StoreOption {
	return func(o *clientOptions) {
		if d > 0 {
			o.commitInterval = d
		}
	}
}

// CommitTimeout limits acquiring the key, and each write: one by [ClientStream.Commit] and the last one at the end of the
// stream, too. A write that takes longer has failed, and is tried again. Default: 5 s. Zero or less: the default.
func CommitTimeout(d time.Duration) StoreOption {
	return func(o *clientOptions) {
		if d > 0 {
			o.commitTimeout = d
		}
	}
}

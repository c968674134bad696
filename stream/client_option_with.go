package stream

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// WithName names the stream for observers: it becomes [Info].Name. Default: empty.
func WithName(name string) ClientOption {
	return clientOption(func(o *clientOptions) { o.name = name })
}

// WithCallOptions passes opts to the call of each attempt. It may be given several times. Default: none.
//
// With grpc.WaitForReady(true) an attempt waits until there is a connection. That is the default with [DialOptions]. Without
// them the attempt fails at once by default, and the backoff of the stream adds to that of the connection.
//
// WithReplay and HoldUntilCheckpoint put a codec around the one of the call. Without DialOptions they know only codecs and
// content subtypes that are given here, and otherwise use proto, whatever grpc.WithDefaultCallOptions says. So if you set
// grpc.ForceCodecV2, grpc.ForceCodec or grpc.CallContentSubtype there, repeat it here. A content subtype without a codec
// is an error.
func WithCallOptions(opts ...grpc.CallOption) ClientOption {
	return clientOption(func(o *clientOptions) { o.call = append(o.call, opts...) })
}

// WithObserver tells observer what happens to the stream: a value with methods of the observer interfaces, or [Hooks]. It may be
// given several times. An observer that implements none of the observer interfaces is an error. Those for servers begin with
// Server, such as [ServerEndedObserver]. Default: none.
func WithObserver(observer Observer) Option {
	return option{
		func(o *clientOptions) { o.observers = append(o.observers, apart(observer, (*Hooks).forClients)...) },
		func(o *serverOptions) { o.observers = append(o.observers, apart(observer, (*Hooks).forServers)...) },
	}
}

// WithoutResume turns resuming off. The stream ends when the first attempt is lost or cannot be opened. If that attempt
// could have been resumed, the reason is ReasonResumeOff.
func WithoutResume() ClientOption {
	return clientOption(func(o *clientOptions) { o.resumeOff = true })
}

// WithStableFor sets how long an attempt must stay attached before the outage is over. After that the backoff starts
// again at its minimum, and WithMaxOutage counts from zero. Default: 10 s. Zero or less: an attempt is stable as soon as
// it is attached.
func WithStableFor(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.stableFor = d })
}

// WithResumable replaces the table of [Resumable], its rule for pushback included. If f returns true, the stream resumes.
// Otherwise it ends. Call Resumable for the errors that f does not decide. Default, and nil: Resumable.
//
// f sees the errors that end attempts: of the server, of the transport, of open, and of the callbacks Resume and Err. It
// may see one twice. It does not see OK, the end of the stream's context, time limits, gaps and denials by policies.
// With hedged opens two goroutines may call f at the same time.
//
// The safe defaults still apply. If f returns true, the stream may still end, with ReasonSendsInDoubt for example.
func WithResumable(f func(error) bool) ClientOption {
	return clientOption(func(o *clientOptions) { o.resumable = f })
}

// WithAlsoResumable adds codes to the table of [Resumable]: if the server ends an attempt with one of them, the stream
// resumes. With OUT_OF_RANGE the position no longer counts as lost. It has no effect together with [WithResumable].
// Default: none.
func WithAlsoResumable(also ...codes.Code) ClientOption {
	return clientOption(func(o *clientOptions) { o.alsoResumable = append(o.alsoResumable, also...) })
}

// WithEndless says that the stream has no end of its own, as a watch or a feed. If the server ends it with OK before the
// application calls CloseSend, that is a planned close. The stream resumes after a jittered wait, and policies do not see
// a failure. The wait is at most 100 ms first. It doubles, up to 10 s, with each close of an attempt that brought nothing
// new. Default: OK ends the stream.
//
// WithEndless and WithoutResume exclude each other.
func WithEndless() ClientOption {
	return clientOption(func(o *clientOptions) { o.endless = true })
}

// WithOKAcknowledges says that OK from the server acknowledges everything that was sent. It is for WithReplay and
// [ClientStream.SendFrom]. Without them it has no effect. Default: OK acknowledges nothing. If messages are unacknowledged then,
// the stream ends with ReasonUnacked.
func WithOKAcknowledges() ClientOption {
	return clientOption(func(o *clientOptions) { o.okAcknowledges = true })
}

// WithPosition sets the position that the first attempt starts from. Use it if the application keeps the position itself.
// It needs Callbacks.Resume, and excludes WithStore. Default, and the zero Position: the beginning.
func WithPosition(p checkpoint.Position) ClientOption {
	return clientOption(func(o *clientOptions) { o.position = p })
}

// WithAckTimeout gives up an attempt if sent messages are unacknowledged and no acknowledgement has come for d, whatever
// else the server sends. That counts as a lost connection. It needs Callbacks.Acked. Default, and zero or less: no limit.
//
// The limit is noticed up to d/8 late, or 1 ms if that is more. If nobody receives, the stream receives by itself to look
// for acknowledgements.
func WithAckTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.ack = d })
}

// WithPositionLost replaces the rule that says which errors mean that the position is lost. Errors that match
// [ErrPositionLost] always do. f decides about the others. It sees the same errors as the function of WithResumable.
// Default, and nil: the status OUT_OF_RANGE from the server, unless WithAlsoResumable or WithResumable resumes it.
func WithPositionLost(f func(error) bool) ClientOption {
	return clientOption(func(o *clientOptions) { o.lost = f })
}

// WithPoisonLimit ends the stream with ReasonPoison if that many attempts in a row were lost at the same place. The first
// of them may have brought messages. The others brought no new message and no new acknowledgement. Probably the message
// that comes next breaks them. Attempts that could not be opened do not count. Nor do planned closes (see WithEndless).
// Default, and zero or less: no limit.
func WithPoisonLimit(attempts int) ClientOption {
	return clientOption(func(o *clientOptions) { o.poisonLimit = attempts })
}

// WithRestart says that starting over loses nothing, because the server sends a full snapshot first, as health watches
// and xDS do. It matters if there is no Callbacks.Checkpoint. Default: such a stream ends with ReasonNoCheckpoint if an
// attempt is lost after a message for the application has arrived.
func WithRestart() ClientOption {
	return clientOption(func(o *clientOptions) { o.restart = true })
}

// DeliverImmediately hands over messages as they arrive. After a break, messages after the last position may come again:
// at least once. It is the default. See [HoldUntilCheckpoint].
func DeliverImmediately() ClientOption {
	return clientOption(func(o *clientOptions) { o.holds = false })
}

// HoldUntilCheckpoint holds messages back until one with a position arrives, and then hands over all of them. On a break
// the held messages are dropped, because they come again. So each message is handed over exactly once within a process.
// If the server ends the stream with OK, the held messages are handed over. Default: [DeliverImmediately].
//
// maxBytes limits what is held, in bytes of encoded messages. Each message counts for at least 96 bytes. A maxBytes of
// zero or less is an error. overflow says what happens if more arrives. HoldUntilCheckpoint needs Callbacks.Checkpoint.
func HoldUntilCheckpoint(maxBytes int, overflow Overflow) ClientOption {
	return clientOption(func(o *clientOptions) { o.holds, o.holdLimit, o.overflow = true, maxBytes, overflow })
}

// WithGapDetection says that the Seq of messages with a position rises by one, without holes. If a number is missing, the
// attempt is given up, as after a lost connection. If the number is still missing after the resume, the stream ends with
// ReasonGap. Messages for which Callbacks.Control returns true are not checked. It needs Callbacks.Checkpoint. Default:
// holes are allowed.
func WithGapDetection() ClientOption {
	return clientOption(func(o *clientOptions) { o.gapDetection = true })
}

// WithReplay keeps sent messages, encoded, until Callbacks.Acked says that the server has them. After a break they are
// sent again, in order, before newer messages. It needs Callbacks.Acked, and a codec that can also decode requests. It
// excludes WithAtMostOnceSends. Default: a break after a Send ends the stream with ReasonSendsInDoubt.
//
// If the limits are reached, Send waits for an acknowledgement; see [ReplayLimits].FailWhenFull. Acknowledgements arrive
// by Recv. If nobody receives while a Send waits, the stream receives by itself, and keeps up to 65,536 messages or
// 16 MiB for Recv.
//
// The server may see a message twice. Put the sequence number into the message, so that the server can drop the second
// one; see Callbacks.Sequence.
func WithReplay(limits ReplayLimits) ClientOption {
	return clientOption(func(o *clientOptions) { o.replay, o.replayLimits = true, limits })
}

// WithAtMostOnceSends says that sent messages may be lost in a break. Use it if the server does not need them after a
// break, or if Resume sends again what still matters, as it does for subscriptions. It excludes WithReplay. Default: a
// break after a Send ends the stream with ReasonSendsInDoubt, because nobody knows what the server has.
//
// With subscriptions, add a new one to the state that Resume reads, and then Send it. The server may see it twice, but
// never misses it.
func WithAtMostOnceSends() ClientOption {
	return clientOption(func(o *clientOptions) { o.atMostOnce = true })
}

// WithOpenTimeout limits the opening of one attempt, Resume included. An attempt that takes longer is given up, and
// counts as one that could not be opened. Zero or less: no limit.
//
// With [DialOptions], time in which the connection is not ready does not count, and by default there is no limit. Without
// them all time counts, and the default is 20 s.
func WithOpenTimeout(d time.Duration) ClientOption {
	if d <= 0 {
		d = noLimit
	}
	return clientOption(func(o *clientOptions) { o.limits.open = d })
}

// WithFirstMessageTimeout limits the time that Recv waits for the first message of an attempt, of any kind. After that
// the attempt is given up, as after a lost connection. Default, and zero or less: WithIdleTimeout applies to the first
// message, too.
//
// The limit is noticed late by up to an eighth of it or of WithIdleTimeout, whichever is shorter, or 1 ms if that is more.
func WithFirstMessageTimeout(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.firstMessage = d })
}

// WithIdleTimeout limits the time that Recv waits for the next message, of any kind. After that the attempt is given up,
// as after a lost connection. Use it to find dead connections that look alive. A server that may have nothing to say for
// longer must send heartbeats; see Callbacks.Control. Default, and zero or less: no limit.
//
// The limit is noticed up to d/8 late, or 1 ms if that is more.
//
// With [DialOptions] a connection that is dead is closed, too. Without them the next attempt uses the same connection as
// long as grpc takes it to be alive. Then use grpc.WithKeepaliveParams, so that grpc notices, and allow the pings on the
// server with keepalive.EnforcementPolicy: by default it ends a connection that pings more often than every 5 minutes.
func WithIdleTimeout(d time.Duration) Option {
	return option{func(o *clientOptions) { o.limits.idle = d }, func(o *serverOptions) { o.idle = d }}
}

// WithSendTimeout limits the time that the transport takes to accept one message. It takes long if the server does not
// read, so that flow control stalls. After that time the attempt is given up, as after a lost connection. Waiting for an
// attempt or for room in the replay buffer does not count. Default, and zero or less: no limit.
//
// The limit is noticed up to d/8 late, or 1 ms if that is more.
func WithSendTimeout(d time.Duration) Option {
	return option{func(o *clientOptions) { o.limits.send = d }, func(o *serverOptions) { o.send = d }}
}

// WithMaxOutage ends the stream with ReasonMaxOutage if an outage lasts longer than d. An outage begins with the first
// open, or when an attempt is lost. It is over when an attempt has stayed attached as long as WithStableFor says. The
// stream does not end while an attempt is attached. Default, and zero or less: no limit but the context.
//
// Set it above WithStableFor. Otherwise one early disconnect can end the stream.
func WithMaxOutage(d time.Duration) ClientOption {
	return clientOption(func(o *clientOptions) { o.limits.maxOutage = d })
}

// WithStore keeps the position of the stream in store, under key. Resilient acquires the key and starts from the
// position there. That makes the stream the owner of the key: a stream that owned it before ends with ReasonFenced at its
// next write. WithStore needs Callbacks.Checkpoint and excludes WithPosition. Default: no store.
//
// The position of what the application has processed is written in the background, and once more when the stream ends. A
// message counts as processed when the next Recv begins, or by Commit; see [WithManualCommit]. A write that fails is
// tried again, and is in [Stats].CommitError. If the key cannot be acquired, Resilient returns an error with ReasonStore.
//
// Together with WithReplay: a new process has sent nothing yet. Resume has to ask the server how much it has, and call
// [Resumption.Acknowledge]. Otherwise an acknowledgement of what an earlier process sent ends the stream with
// ReasonProtocol.
func WithStore(store checkpoint.Store, key string, opts ...StoreOption) ClientOption {
	return clientOption(func(o *clientOptions) {
		o.store = &storeOptions{store: store, key: key, every: 100, interval: time.Second, timeout: 5 * time.Second}
		for _, opt := range opts {
			if opt == nil {
				o.store.nilOption = true
				continue
			}
			opt(o.store)
		}
	})
}

// WithManualCommit says that only [ClientStream.Commit] makes messages count as processed. It needs WithStore. Default: a
// message counts as processed when the next Recv begins.
func WithManualCommit() ClientOption {
	return clientOption(func(o *clientOptions) { o.manual = true })
}

// StoreOption configures WithStore. A nil StoreOption is an error.
type StoreOption func(*storeOptions)

// CommitEvery sets after how many processed messages the position is written. Default: 100. Below 1: 1.
func CommitEvery(messages int) StoreOption {
	return func(o *storeOptions) { o.every = int64(max(1, messages)) }
}

// CommitInterval sets how long a processed position waits, at most, until it is written. Default, and zero or less: 1 s.
func CommitInterval(d time.Duration) StoreOption {
	return func(o *storeOptions) {
		if d > 0 {
			o.interval = d
		}
	}
}

// CommitTimeout limits each call of the store: the acquire, each write in the background, [ClientStream.Commit], and the
// last write of the stream. A call that takes longer has failed. A write in the background is then tried again. Default,
// and zero or less: 5 s.
func CommitTimeout(d time.Duration) StoreOption {
	return func(o *storeOptions) {
		if d > 0 {
			o.timeout = d
		}
	}
}

// Package stream makes a gRPC stream survive broken connections. The application uses one stream. This package opens
// gRPC streams under it, and resumes after each break.
//
//	s, err := stream.Resilient(ctx, client.Chat, stream.Callbacks[pb.Request, pb.Response]{
//		Resume: func(ctx context.Context, r *stream.Resumption[pb.Request, pb.Response]) error {
//			return r.Send(&pb.Request{From: r.Position().Seq})
//		},
//		Checkpoint: func(m *pb.Response) (checkpoint.Position, bool) {
//			return checkpoint.Position{Seq: m.GetNumber()}, m.GetNumber() > 0
//		},
//		Acked:   func(m *pb.Response) (uint64, bool) { return m.GetAck(), m.GetAck() > 0 },
//		Control: func(m *pb.Response) bool { return m.GetNumber() == 0 }, // only an acknowledgement
//	}, stream.WithReplay(stream.ReplayLimits{}))
//
// [ResilientServerStreaming] and [ResilientClientStreaming] are for methods that take one request, or answer once.
// [ClientInterceptor] makes generated clients resilient without a change at their call sites.
//
// Use s like the stream that client.Chat returns. Each gRPC stream under s is an attempt. Attempts are numbered from 1.
// If an attempt is lost, failsafe-go policies decide whether and when the next one is opened. Then Resume tells the
// server where to continue, and messages that the server has not acknowledged are sent again.
//
// # Guarantees
//
//   - Nothing is silently restarted, lost or doubled. If the stream cannot continue without losing, repeating or
//     restarting messages, it returns an [*Error]. The documentation of its [Reason] names the option that decides.
//   - The end is no exception. If the server ends the stream with OK, and WithReplay still keeps messages that the
//     server has not acknowledged, Recv returns an error with ReasonUnacked, and not io.EOF. [ClientStream.Flush] waits
//     for acknowledgements. [ClientStream.Unacked] returns what is not acknowledged, also after the end.
//   - Messages are handed over in the order of arrival. A position counts only when everything before it was handed
//     over. If positions have a Seq, messages that come again are dropped.
//   - With [HoldUntilCheckpoint] each message is handed over once, even if only some messages have a position.
//   - With [WithReplay] a message is kept, as it was when Send accepted it, until the server acknowledges it. It is sent
//     again on each new attempt, in order, before newer messages. What is kept is bounded.
//   - The position in a store never goes past what the application has processed. Only the newest owner of a key can
//     write it.
//   - With the default policy, or another policy of [NewRetryPolicyBuilder], no attempt is opened after a loss without a
//     jittered wait. The backoff starts again at its minimum only after an attempt has lasted as long as
//     [WithStableFor] says.
//   - An attempt that was given up is cancelled. No message that arrives on it afterwards reaches the application.
//
// # Not guaranteed
//
//   - A nil error from Send does not say that the server has the message. Only an acknowledgement does.
//   - Without WithReplay, io.EOF from Recv does not say that the server has processed what was sent.
//   - The server may see a replayed message twice. Put the sequence number into the message, so that the server can
//     drop the second one. See Callbacks.Sequence.
//   - Without HoldUntilCheckpoint, messages after the last position before a break may come again.
//   - A break is noticed only when somebody sends or receives. Acknowledgements arrive by Recv: keep receiving. The
//     stream receives by itself only while a Send or Flush waits.
//   - A dead connection that looks alive is noticed only with a time limit, such as [WithIdleTimeout] or
//     [WithSendTimeout].
//   - If a server loses the end of its history and gives old numbers to new messages, the stream notices that only if
//     the Lineage of the positions changes.
//
// # States
//
// A stream is opening, attached, rotating, detached or closed; see [State]. Send and Recv wait while it is opening or
// detached. While it is rotating, the next attempt is opened and the old one still works; see [WithMaxAge]. Send waits then.
//
// # Goroutines and cancellation
//
// One goroutine, the lifecycle goroutine, owns the states. Messages do not pass through it: Send and Recv run in the
// caller's goroutine, on the attempt itself. Other goroutines run only while they have work: a write to the store,
// events for observers, a Send that waits. All of them end with the stream.
//
// The stream ends if the server ends it, if it fails for good, if its context is done, or if Close is called. One
// goroutine may call Send while another calls Recv. Two goroutines must not call Send, or Recv, at the same time.
//
// # Errors
//
// Recv and Send return io.EOF bare, never wrapped. Every other error of a [ClientStream] is an [*Error]. It has a
// Reason, a gRPC status and a cause.
//
// # Tests
//
// Package streamtest cuts your stream at every message, so that you can prove your callbacks.
package stream

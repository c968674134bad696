// Package stream makes a gRPC stream survive: it goes on working, as one stream, across broken connections.
//
//	s, err := stream.Resilient(ctx, client.Chat, stream.Callbacks[pb.Request, pb.Response]{
//		Resume: func(ctx context.Context, r *stream.Resumption[pb.Request, pb.Response]) error {
//			return r.Send(&pb.Request{From: r.Position().Seq})
//		},
//		Checkpoint: func(m *pb.Response) (checkpoint.Position, bool) {
//			return checkpoint.Position{Seq: m.GetNumber()}, m.GetNumber() > 0
//		},
//		Acked:   func(m *pb.Response) (uint64, bool) { return m.GetAck(), m.GetAck() > 0 },
//		Control: func(m *pb.Response) bool { return m.GetNumber() == 0 }, // an acknowledgement alone
//	}, stream.WithReplay(stream.ReplayLimits{}))
//
// The stream that comes back is used like the generated one. A logical stream is a row of attempts, each one gRPC
// stream with a number of its own. When one is lost, the policies of failsafe-go decide whether and when there is
// another; Resume tells the server where to go on, and what the server has not acknowledged is sent again.
//
// # Guarantees
//
//   - Nothing is silently restarted, lost or doubled. A stream that cannot go on without one of these ends with an
//     [Error] whose Reason names the option that is missing.
//   - Messages are handed over in the order of arrival, and a position counts only when everything before it was
//     handed over. With Seq set, what comes again is dropped.
//   - With [HoldUntilCheckpoint] each message is handed over once, also where only some messages have a position.
//   - With [WithReplay] a message that Send has accepted is sent on each attempt until the server acknowledges it, in
//     order, before newer ones, as it was when it was sent. What is kept is bounded.
//   - What a store has is a prefix of what the application has processed, written by the newest owner of the key.
//   - With the default policy, or another of [NewRetryPolicyBuilder], no attempt is opened after a loss without a
//     jittered wait. The backoff starts anew only when an attempt has lasted for the time of [WithStableFor].
//   - Every attempt that was given up is cancelled, and nothing of it reaches the application any more.
//
// # Not guaranteed
//
//   - A nil error from Send does not say that the server has the message: only its acknowledgement does.
//   - The server may see a replayed message twice. It can tell where the application puts the sequence number into the
//     message.
//   - Without HoldUntilCheckpoint, messages after the last position before a break may come again.
//   - A break is found when somebody sends or receives. Acknowledgements arrive by Recv: somebody has to be receiving.
//     A dead connection that looks alive is found by [WithIdleTimeout] and [WithSendTimeout].
//   - A server that loses the end of its history, and gives new messages old numbers, is found only where the Lineage
//     of its positions changes.
//
// # States
//
// A stream is opening, attached, detached or closed; see [State]. Send and Recv wait while it is opening or detached.
//
// # Goroutines and cancellation
//
// One goroutine, the lifecycle goroutine, owns the states. Messages do not pass through it: Send and Recv run in the
// caller's goroutine, on the attempt itself. A store adds one goroutine, and an observer one while events wait.
// All end with the stream, which ends when the server ends it, when it fails for good, when its context is done, or by
// Close. One goroutine may Send while another Recvs, and neither with itself.
//
// The numbered invariants that this documentation names stand in ARCHITECTURE.md.
//
// # Errors
//
// io.EOF is never wrapped. Every other error is an [*Error], which has a Reason, a gRPC status and a cause.
package stream

// Package outbox is the sending half of a stream as a state machine: the attempt that takes messages, their numbers, and
// what was sent and not acknowledged yet.
//
// It knows no gRPC stream, no goroutine, no callback and no policy. Facts go in, decisions come out, so either end of a
// stream can use it, and it can be tested without a network.
//
//	t, verdict := out.Begin(m, 0, true)      // waits for room, and for an attempt
//	if verdict == outbox.Go {
//		said := …                            // SendMsg on t.Attempt; no lock is held
//		outcome := out.Settle(m, t, said)    // the table: what that means for m, and for the attempt
//	}
//
// # Who may call what
//
//   - The application's goroutine: Begin, and then Settle (or Forget, if the call never returned). Between them it is
//     *busy*: nobody else sends, and Detach waits. The same for CloseSend and HalfClosed.
//   - The application's goroutine, for a message with a key (keyed.go): BeginKey, and then Settle or Forget.
//   - Anybody, for a message that belongs to one attempt: BeginOn, and then Settle or Forget. It waits its turn.
//   - The owner of the attempts, one goroutine: Opened, AcknowledgeStart, NextState, DropState, Next, Resume and Resumed (the
//     replay), Discard, Attach, Pause, Unpause, Detach, End. Detach is the fence: when it returns nothing is on its way on the
//     attempt any more.
//   - The codec, in the goroutine that sends: Encoded, and then Keep.
//   - Anybody, at any time: Acknowledge, Abandon, AwaitQuiet, Wake, Leave, Flushed, Window, Unacked, Stats, Tick.
//
// # What the result of a SendMsg means
//
// The table is [Outcome], and the function that decides is outcomeOf, in outcome.go.
package outbox

// Package inbox is the receiving half of a stream as a state machine: the attempt that messages come from, the positions,
// what waits for the application, and what is held until a position comes.
//
// It knows no gRPC stream, no goroutine, no callback and no policy. Facts go in, decisions come out, so either end of a
// stream can use it, and it can be tested without a network.
//
//	m, a, err := in.Begin()                 // a message that is ready, or the attempt to receive from
//	if m == nil && err == nil {
//		m, err := a.Recv()                   // no lock is held
//		mine, report := in.Arrived(a, &inbox.Arrival[Message]{Message: m, …}, false)
//		if report != nil {                   // publish it, break the attempt if it says so, then:
//			in.Settle(a, report.Breaks())
//		}
//	}
//
// # Who may call what
//
//   - The application's goroutine: Begin, and then exactly one of Arrived (followed by Settle if there is a report) and
//     Refuse. Between Begin and that it is *busy*: nobody else receives, and Detach waits.
//   - The owner of the attempts, one goroutine: Attach, Freeze, Thaw, Detach, Begins, StartsFrom, Anchor, End. Detach is the
//     fence: when it returns nothing is on its way on the attempt any more, so what it returns is where the next one starts.
//   - A goroutine that receives in the application's place: Claim, and then Arrived with queue, or Refuse, as above.
//   - Anybody, at any time: Position, Committable, ProcessAll, Stats, Tick, Leave, Abandon, AwaitAfter, AwaitFrozen, Wake.
//
// # What a message is
//
// The table is [Kind], and the function that decides is Inbox.kindOf, in kind.go. The way of a message that is next, while
// nothing else goes on, takes no lock: see lane.go.
package inbox

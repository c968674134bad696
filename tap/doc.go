// Package tap refuses RPCs at a gRPC server's door, by failsafe-go's policies, before they cost a stream, a goroutine or a
// message.
//
//	accountant, err := tap.NewAccountant(
//		tap.WithPolicies(bulkhead.New[any](100), breaker), // breaker: not of one failure, as the defaults have it
//		tap.WithMethodPolicies("/pkg.Service/Report", ratelimiter.NewBursty[any](10, time.Second)),
//		tap.WithKey(tap.ByMetadata("tenant"), func(string) []failsafe.Policy[any] {
//			return []failsafe.Policy[any]{ratelimiter.NewBursty[any](50, time.Second)}
//		}, 10_000),
//		tap.WithRetryDelay(time.Second),
//	)
//	server := grpc.NewServer(accountant.ServerOptions()...)
//
// There are two kinds of handle for grpc.InTapHandle. [ServerInHandle] looks at admissions only, which is enough for
// rates. An [Accountant] is told by grpc how each RPC ends: it holds the permits of bulkheads and adaptive limiters until its
// handler has returned, and lets breakers and throttlers know the outcome.
//
// # Guarantees
//
//   - grpc calls a tap with the connection's lock held: no handle ever waits, whatever the policies' longest waits are,
//     for a policy, an observer or anything else.
//   - ServerInHandle allocates nothing, but for the keys that it meets for the first time, and for what differs from one
//     refusal to the next.
//   - Every refusal carries a status that says what to do.
//   - A permit that an Accountant has taken is held until the handler has returned, even if the client has gone long
//     before. It is given back once, even if the RPC never got to a handler.
//   - A breaker sees what is the server's fault as a failure, and no admission, refusal or cancellation as anything. The
//     permits of its trial are neither lost nor exceeded.
//   - With the Accountant's interceptors, which ServerOptions has, a permit is free before the answer is on its way: a client
//     that calls again at once finds it.
//   - A client's cancellation in the last tenth of its time, and in its last 10 ms, is its deadline: over a network it often
//     comes before the server's own timer.
//   - A panic of a key or a policy refuses one RPC, and leaks no permit.
//   - What clients can make a handle keep is bounded: keys, methods, events.
//   - A caller whose deadline has passed costs no permit.
//
// # Not guaranteed
//
//   - A rate limiter's permit is spent even if another policy refuses after it.
//   - A level or a key that comes from metadata is what the client says. See [WithPriority] and [ByMetadata].
//   - In a refused RPC's context a deadline's timer runs on until the deadline: grpc does not cancel it.
//   - Taps are for grpc's own transport. Behind grpc.Server.ServeHTTP none is called.
//
// # Goroutines
//
// A handle runs in grpc's goroutines. Observers have one more, while events wait.
//
// # Errors
//
//	rate limiter, bulkhead, adaptive limiter, throttler  RESOURCE_EXHAUSTED, with RetryInfo if [WithRetryDelay] says
//	breaker open                                         UNAVAILABLE, with the remaining delay as RetryInfo
//	deadline has passed                                  DEADLINE_EXCEEDED
//	no name of a method                                  UNIMPLEMENTED
//	a level or a priority that is none                   INVALID_ARGUMENT
//	wrong options                                        INTERNAL: see [Validate]
package tap

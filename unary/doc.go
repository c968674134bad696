// Package unary runs unary gRPC calls under the policies of failsafe-go: retry, hedge, timeout, circuit breaker,
// limiters, fallback, cache.
//
//	conn, err := grpc.NewClient(target, grpc.WithUnaryInterceptor(unary.ClientInterceptor(
//		unary.WithPolicies(unary.Interactive().Policies()...),
//		unary.WithMethodPolicies("/pkg.Service/Write", unary.CriticalWrite().Policies()...),
//	)))
//
// # Guarantees
//
//   - Every attempt but the first has its own reply, and every attempt its own targets for headers, trailers and the
//     peer; the winner's are copied to the caller's once. If attempts overlap, or a policy keeps replies, the first
//     has its own reply, too.
//   - What a fallback or a cache returns reaches the caller's reply. A reply of another type is an INTERNAL error.
//   - No attempt begins for a caller that has gone, and none outlives it. Policies wait in the caller's context.
//   - RetryInfo and grpc-retry-pushback-ms are honoured by every retry policy given to WithPolicies. What the server asks for
//     is waited for up to [WithMaxHint], and never beyond the deadline: else the call ends at once.
//   - A failing hedge never beats an attempt that still runs, and a denied one hides no failure.
//   - The server knows the time limit of each timeout given to WithPolicies, as the deadline of the attempt.
//   - An attempt after the first tells the server how many were before it, in x-retry-attempt, as go-grpc-middleware does.
//   - A breaker counts what tells something about the server. A call that was cancelled, or that a policy denied, is neither
//     success nor failure, and costs no trial of a half-open breaker.
//   - What stops the retries hides no failure: the last one is the error of the call, and the denial is told beside it.
//   - A panic of a handler, a predicate, a listener or an observer goes on to the caller, after the policies have let go of
//     what they hold.
//   - Messages are the caller's own again when its call returns: no attempt still reads or writes them.
//
// # Not guaranteed
//
//   - A retry after UNAVAILABLE may run a handler twice: the first attempt's connection may have broken after it. If
//     that does harm, give the request a key by which the server knows it again, or no retry policy.
//   - What a handler that is tried again put into headers and trailers stays there.
//   - A reply that is not a protobuf message is copied as a Go value, references included.
//   - A timeout's listener and the conditions of a hedge policy run in goroutines of failsafe-go's own. If they panic, the
//     process ends. A listener of a breaker's state must not panic either: failsafe-go holds a lock around it.
//   - OnRetryScheduled of a policy that retrypolicy.NewBuilder made tells the policy's own delay, without what the server
//     asked for; NewRetryPolicyBuilder's tells what is waited. If that would go beyond the deadline, it tells zero, and there
//     is no retry.
//
// # Goroutines and cancellation
//
// A call runs in the caller's goroutine; only hedge policies start others, one for each attempt. An attempt's context
// comes from the caller's and is cancelled by a timeout, by a hedge that won, and by the context of an executor. A client's
// call returns when its attempts have returned, those that lost having been cancelled; on a server, the handler of a hedge
// that lost may still run, if it does not mind its context.
//
// # Order of policies
//
// The outermost comes first: fallback, timeout of the call, retry, circuit breaker, hedge, timeout of one attempt is an
// order that makes sense. Inside a retry or hedge policy, a policy sees each attempt. A limiter inside of a retry policy
// denies single attempts, so limiters belong outside.
//
// # Retries around retries
//
// Retry in one place. Three tries of a client, each tried three times by the server or by another interceptor, are nine runs
// of the handler. An interceptor of this package sees by x-retry-attempt that somebody outside retries the call, and does not
// retry it itself. On the first of the outer tries it cannot know: of nine runs five are left. go-grpc-middleware's retry
// does not look at the metadata, so put it outside, or leave it out.
//
// # Errors
//
// An attempt's own error is returned as it is. What a policy made of the call is an [*Error], which also tells what the last
// attempt died of. Its status is:
//
//	breaker open                                             UNAVAILABLE, with RetryInfo
//	rate limiter, bulkhead, adaptive limiter, throttler      RESOURCE_EXHAUSTED
//	timeout                                                  DEADLINE_EXCEEDED
//	retries exceeded, or stopped by a budget or a denial     that of the last failure
//	the caller's deadline, the caller gone                   DEADLINE_EXCEEDED, CANCELLED
package unary

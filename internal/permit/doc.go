// Package permit uses failsafe-go's policies through their permit API: without an executor, and without an allocation. It is
// for taps, for messages, and for whatever else knows how its work ended when that is over.
//
// A [Gate] is one policy, a [Chain] is several, the outermost first. [Held] is what a piece of work holds until it ends:
//
//	var held permit.Held
//	if denied, err := chain.Acquire(ctx, &held); err != nil {
//		…                                     // denied is the gate that said no, nil if ctx is done
//	}
//	…                                             // the work
//	held.End(permit.Served, nil)
//
// # What an outcome does to a permit
//
// These are the semantics of failsafe-go's executors, compared with them by a test. A policy that denies is asked after those
// around it have given their permits, so it has an effect on these:
//
//	the policy                  Served    Fault             Denied, inside it        Unrun, Left
//	rate limiter                spent     spent             spent                    spent
//	bulkhead                    released  released          released                 released
//	adaptive limiter            recorded  recorded          recorded                 dropped
//	circuit breaker, throttler  success   its conditions    a failure, or no verdict no verdict
//
// "Its conditions" are those of the policy's builder. Without any, every error is a failure. A denial is a failure if the
// conditions of the policy around say so, as they do by default. Otherwise it is no verdict: here this package differs from
// failsafe-go's own circuit breaker and throttler, which would count a success, so that a spent limit inside a half-open
// breaker closes it (invariants 37 and 38). It is what breakers of package trial do under an executor, too. No verdict gives a
// permit of a half-open breaker to the next piece of work.
//
// What failsafe-go does only in an executor does not happen: listeners for single executions (OnSuccess and OnFailure of
// breakers and throttlers, OnFull, OnRateLimitExceeded, …) are not called, and a breaker's DelayFunc is not asked. Listeners
// for changes of a policy's state are called.
package permit

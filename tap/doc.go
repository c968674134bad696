// Package tap refuses RPCs at a gRPC server's door, before they cost a stream, a goroutine or a message.
//
//	accountant, err := tap.NewAccountant(
//		tap.WithPolicies(bulkhead.New[any](100), circuitbreaker.NewWithDefaults[any](), ratelimiter.NewBursty[any](1000, time.Second)),
//		tap.WithKey(tap.ByMetadata("tenant"), func(string) []failsafe.Policy[any] {
//			return []failsafe.Policy[any]{ratelimiter.NewBursty[any](50, time.Second)}
//		}, 10_000),
//		tap.WithRetryDelay(time.Second),
//	)
//	server := grpc.NewServer(accountant.ServerOptions()...)
package tap

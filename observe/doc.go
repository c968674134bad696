// Package observe shows operators what streams do. It has two observers that need nothing but the standard library:
//
//   - [Slog] logs what happens to streams, calls and admissions.
//   - [Handler] is a live page of all streams of the process.
//
// Both are given as any observer is:
//
//	page := observe.Handler()
//	http.Handle("/debug/streams", page)
//	s, err := stream.Resilient(ctx, client.Watch, callbacks,
//		stream.WithName("prices"),
//		stream.WithObserver(page),
//		stream.WithObserver(observe.Slog(slog.Default())))
//
// Metrics are in modules of their own, so that nobody has to have their dependencies. docs/operating.md goes from an alert to the
// stream that is stuck, and why.
//
// # Cost
//
// No observer of this package is on the way of a message. Logs cost something for each event, such as a lost attempt. The page
// keeps some events for each stream, and asks the streams only while somebody looks at it.
package observe

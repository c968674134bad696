// Package ready lets streams wait until their client connection is ready, all of one connection together.
//
// A [Gate] does three things that grpc's own waiting (WaitForReady) does not:
//
//   - It tells what the connection waits for, while it waits. grpc says so only when a waiting call ends. So one of those
//     who wait, the leader, calls without waiting from time to time, and its error is everybody's news.
//   - It lets the streams through one after the other, two in each millisecond, when the connection is ready again, and after
//     a loss. grpc lets all of them go at once, and ten thousand streams then open within 100 ms.
//   - It says when a stream waits, so that a time limit for opening need not count that.
//
// # Goroutines and timers
//
// While somebody waits, one goroutine for each connection watches its state. It ends when the connection is ready, or when
// nobody waits any more. While streams pass, one timer counts the milliseconds.
package ready

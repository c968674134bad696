// Package testnet is a network that breaks on purpose, for tests, examples and benchmarks of gRPC streams.
//
// Package stream/streamtest is what users see of it.
//
// There are two worlds. [Memory] lives in memory and runs whole inside a testing/synctest bubble. [TCP] is a proxy on
// the loopback interface with real sockets. Both are a [Network], which joins each client connection to a server
// connection and forwards the bytes between them until it is told to misbehave:
//
//	world := testnet.NewMemory()
//	defer world.Close()
//	go server.Serve(world.Listener())
//	conn, err := world.Client()
//	world.Arm(testnet.Fault{Kind: testnet.FIN, Direction: testnet.ToClient, Message: 3, Where: testnet.After})
//
// The client above receives three messages and then loses its connection.
//
// # Messages
//
// A Network reads the HTTP/2 frames that pass and knows where each gRPC message begins and ends, so a [Fault] can be
// placed before, inside or after a message. Messages are numbered from 1, by direction, in the order in which they begin;
// all streams of a connection count together. A DATA frame that holds several messages is forwarded as several frames,
// so that After means that the peer can read the message, and nothing after it. What does not begin like HTTP/2 (TLS,
// say) is forwarded too, but then only faults placed by bytes work.
//
// # What a cut destroys
//
// FIN and RST lose what the network still holds, and keep what it has forwarded: the peer's socket has it. Whether
// the application gets to read it is another matter:
//
//   - A gRPC client hands over every message that arrived before it reports the loss of the connection.
//   - A gRPC server cancels the handler's context at once, and the handler may then miss messages that had arrived. With
//     [Fault.Pause] it has time for them.
//   - After an RST, an operating system may drop what the application has not read. Linux keeps it, and so does Memory.
//
// # Goroutines
//
// Each connection has five, and TCP one more for each connection being opened and one that accepts. All end with
// Close, which waits for them. Sockets are bounded as real ones are, so flow control works as it does elsewhere.
package testnet

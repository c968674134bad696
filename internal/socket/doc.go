// Package socket knows the sockets under grpc's client connections, and closes those that are dead.
//
// A [Group] stands around transport credentials: each connection passes through their handshake, whoever has dialled it
// (grpc itself, a proxy named by HTTPS_PROXY, a dialer of the application's, a unix socket). A [Socket] counts what is read
// from it. [Group.Of] finds the socket that a gRPC stream is on, by the identity of the local address in the stream's peer:
// two sockets may have the same address, one after the other, but never the same pointer.
//
// If somebody doubts a socket, [Socket.Suspect] sends one probe on it, a call of the standard health service. Any byte that
// is read afterwards is life: the answer, UNIMPLEMENTED, or something else. If nothing comes, the socket is closed. grpc
// then connects again to that one address, and everything else stays as it is: the ClientConn, its load balancing, its
// other sockets. A probe that could not be sent on the socket decides nothing.
//
// # Goroutines
//
// A probe has two: one waits for an answer and ends after twice the limit at the latest, and one sends, and ends with it,
// or when the application's interceptors return.
package socket
